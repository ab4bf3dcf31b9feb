from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
import trio

from tests.replication.pair import MIB, ROOT, Cable, Pair, the
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import DatasetBlocked, RemoteError, TransportError, ZfsError
from zrepl_trio.replication.listing import LISTED_AT_ONCE
from zrepl_trio.replication.plan import FilesystemPlan, Plan, Refusal
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.model import FilesystemVersion, ResumeToken
from zrepl_trio.zfs.names import DatasetPath


class Slow(Cable):
    """Tells how many listings are asked for at once; fails those in `fail`."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.sender)
        self.running = self.most = 0
        self.fail: dict[str, Exception] = {}

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(1)
            if filesystem in self.fail:
                raise self.fail[filesystem]
            return await super().list_versions(filesystem)
        finally:
            self.running -= 1


async def plans(pair: Pair, sender: Cable) -> Sequence[Plan]:
    planned = await plan_all(
        sender,
        pair.receiver,
        options=ReplicationOptions(),
        decode_token=pair.target.decode_token,
    )
    return planned.plans


@pytest.fixture
async def pair() -> Pair:
    pair = Pair()
    for number in range(10):
        pair.fill(f"tank/f{number}", 10)
        await pair.snapshot(f"tank/f{number}", "1")
    return pair


async def test_a_peer_is_asked_for_a_few_at_a_time(
    pair: Pair, autojump_clock: trio.abc.Clock
) -> None:
    peer = Slow(pair)
    found = await plans(pair, peer)
    assert len(found) == 10
    assert all(isinstance(plan, FilesystemPlan) and plan.steps for plan in found)
    assert peer.most == LISTED_AT_ONCE


async def test_one_that_fails_is_refused_alone(pair: Pair, autojump_clock: trio.abc.Clock) -> None:
    peer = Slow(pair)
    peer.fail["tank/f3"] = RemoteError("it is gone")
    refused = [plan for plan in await plans(pair, peer) if isinstance(plan, Refusal)]
    assert [plan.text for plan in refused] == [
        "tank/f3: the sender's versions cannot be listed: it is gone"
    ]


class Blocking(Receiver):
    """Of one of its datasets nothing can be known."""

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        if filesystem == "tank/f3":
            raise DatasetBlocked("pid 4711 ignores SIGKILL", dataset=filesystem)
        return await super().list_versions(filesystem)

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        return {each: await self.list_versions(each) for each in filesystems}


async def test_a_dataset_that_a_stuck_child_blocks_is_refused_alone(pair: Pair) -> None:
    assert (await pair.run()).outcome is Outcome.DONE
    found = (
        await plan_all(
            pair.sender,
            Blocking(pair.target, job="pull", root=ROOT),
            options=ReplicationOptions(),
            decode_token=pair.target.decode_token,
        )
    ).plans
    refused = [plan for plan in found if isinstance(plan, Refusal)]
    assert len(found) == 10
    assert [plan.text for plan in refused] == [
        "tank/f3: the receiver's versions cannot be listed: pid 4711 ignores SIGKILL"
    ]


async def test_a_broken_link_ends_it_all_bare(pair: Pair, autojump_clock: trio.abc.Clock) -> None:
    peer = Slow(pair)
    peer.fail["tank/f3"] = TransportError("cut")
    with pytest.raises(TransportError, match="cut"):
        await plans(pair, peer)
    assert peer.running == 0


class TestTokens:
    @pytest.fixture
    async def cut(self) -> Pair:
        pair = Pair()
        pair.fill("tank/a", MIB)
        await pair.snapshot("tank/a", "1")
        pair.cable.cut_after = MIB // 2
        await pair.run(options=ReplicationOptions(attempts=1))
        return pair

    async def test_a_corrupt_one_is_given_up(
        self, cut: Pair, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
    ) -> None:
        real = cut.target.decode_token

        async def corrupt(_token: str) -> ResumeToken:
            return await real("1-garbage")

        monkeypatch.setattr(cut.target, "decode_token", corrupt)
        report = await cut.run()
        assert report.outcome is Outcome.DONE, report.error
        assert "cannot be read" in the(report, "tank/a").note
        assert cut.same("tank/a", "1")

    async def test_a_zfs_that_fails_gives_nothing_up(
        self, cut: Pair, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
    ) -> None:
        async def broken(_token: str) -> ResumeToken:
            await trio.lowlevel.checkpoint()
            raise ZfsError("cannot run zfs")

        monkeypatch.setattr(cut.target, "decode_token", broken)
        report = await cut.run()
        assert "resume token cannot be decoded: cannot run zfs" in report.error
        kept = await cut.target.dataset(cut.local("tank/a"))
        assert kept is not None
        assert kept.resume_token is not None


async def test_a_placeholder_on_both_sides_has_nothing_to_do(
    autojump_clock: trio.abc.Clock,
) -> None:
    pair = Pair()
    pair.source.add_filesystem("tank/a", {"zrepl:placeholder": "on"})
    pair.fill("tank/a/b", 10)
    await pair.snapshot("tank/a/b", "1")
    for _ in range(2):
        report = await pair.run()
        assert report.outcome is Outcome.DONE, report.error
        assert the(report, "tank/a").steps == ()
    replica = await pair.target.dataset(pair.local("tank/a"))
    assert replica is not None
    assert replica.is_placeholder
