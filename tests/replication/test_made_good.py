"""Making good, following and settling never cost what protects: regressions, each once a real bug."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.replication.hosts import open_hosts
from tests.replication.notation import path
from tests.replication.pair import MIB, ROOT, Pair
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, SendRequest
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import ConnectFailed, DatasetBusy
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.report import Outcome, Report
from zrepl_trio.zfs.names import DatasetPath

A = path("tank/a")
REPLICA = path(f"{ROOT}/tank/a")
ONCE = ReplicationOptions(attempts=1)


async def filled(*names: str) -> Pair:
    pair = Pair()
    for name in names:
        pair.fill(name, MIB)
        await pair.snapshot(name, "1")
    return pair


async def test_a_base_that_is_only_a_bookmark_any_more_is_kept() -> None:
    """The cursor went back to the newest snapshot that was left, and with it the only common base."""
    pair = await filled("tank/a")
    for name in ("2", "3"):
        await pair.snapshot("tank/a", name)
        assert (await pair.run()).outcome is Outcome.DONE
    await pair.source.destroy_snapshots(A, ["3"])
    cursor = [v for v in await pair.source.versions(A) if not v.is_snapshot]
    assert (await pair.run()).outcome is Outcome.DONE
    assert [v for v in await pair.source.versions(A) if not v.is_snapshot] == cursor
    await pair.snapshot("tank/a", "4")
    report = await pair.run()
    assert report.outcome is Outcome.DONE, report.error


async def test_an_idle_client_of_a_shared_source_takes_nothing_from_another(
    autojump_clock: trio.abc.Clock,
) -> None:
    pair = await filled("tank/a")
    pair.target.add_filesystem("backup/other")
    other = Receiver(
        pair.target,
        job="dst2",
        root=path("backup/other"),
        placeholder_encryption=PlaceholderEncryption.INHERIT,
    )

    async def second() -> Report:
        return await replicate(
            pair.cable,
            other,
            ReplicationOptions(),
            report=lambda _report: None,
            clock=pair.clock,
            decode_token=pair.target.decode_token,
        )

    assert (await pair.run()).outcome is Outcome.DONE
    await pair.snapshot("tank/a", "2", MIB)
    await pair.snapshot("tank/a", "3", 4 * MIB)
    assert (await second()).outcome is Outcome.DONE
    pair.cable.cut_after = 3 * MIB
    await pair.run(options=ONCE)  # @1 to @2 is confirmed, @2 to @3 interrupted
    before = await pair.marks("tank/a")
    assert "@2=zrepl_STEP_J_src" in before
    assert (await second()).outcome is Outcome.DONE
    assert await pair.marks("tank/a") == before


async def test_a_confirmation_that_fails_keeps_no_name_from_a_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its child was renamed first, into a placeholder of the parent's new name."""
    pair = await filled("tank/a", "tank/a/b")
    assert (await pair.run()).outcome is Outcome.DONE
    new = path("tank/new")
    await pair.source.rename(A, new)
    for version in await pair.source.versions(new):
        if not version.is_snapshot:
            await pair.source.destroy_bookmark(new, version.name)
    await pair.snapshot("tank/new/b", "2")
    completed = pair.sender.send_completed

    async def busy(request: SendRequest) -> None:
        if request.filesystem == "tank/new":
            raise DatasetBusy("just now")
        await completed(request)

    monkeypatch.setattr(pair.sender, "send_completed", busy)
    follow = ReplicationOptions(follow_renames=True, attempts=1)
    assert (await pair.run(options=follow)).outcome is Outcome.FILESYSTEMS_FAILED
    monkeypatch.undo()
    report = await pair.run(options=follow)
    assert report.outcome is Outcome.DONE, report.error
    replicas = {dataset.path for dataset in await pair.target.datasets([ROOT])}
    assert REPLICA not in replicas
    assert path(f"{ROOT}/tank/new/b") in replicas


async def test_a_dead_link_is_found_out_once(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await filled(*(f"tank/a{number}" for number in range(20)))
    nothing = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING)
    await pair.run(options=ReplicationOptions(protection=nothing))
    dials = 0

    async def silent(_request: SendRequest) -> None:
        nonlocal dials
        dials += 1
        await trio.sleep(15)
        raise ConnectFailed("no answer")

    monkeypatch.setattr(pair.sender, "send_completed", silent)
    report = await pair.run(options=ONCE)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert dials == 1


async def test_what_somebody_saves_just_before_a_rollback_is_not_destroyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = await filled("tank/a")
    await pair.run()
    pair.target.write(REPLICA, {"mine": bytes(3000)})
    await pair.snapshot("tank/a", "2")
    abort = pair.target.abort_receive

    async def saves(dataset: DatasetPath) -> None:
        await pair.target.snapshot(REPLICA, "saved")
        await abort(dataset)

    monkeypatch.setattr(pair.target, "abort_receive", saves)
    options = ReplicationOptions(divergence=DivergencePolicy.ROLLBACK, attempts=1)
    assert (await pair.run(options=options)).outcome is Outcome.FILESYSTEMS_FAILED
    assert "saved" in [v.name for v in await pair.target.versions(REPLICA)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["emulated", pytest.param("real", marks=pytest.mark.zfs)])
@pytest.mark.parametrize(
    "policy",
    [
        DivergencePolicy.ROLLBACK,
        pytest.param(DivergencePolicy.KEEP_COPY, marks=pytest.mark.thorough),
    ],
)
async def test_a_step_that_was_half_received_hides_no_modification(
    tmp_path: Path, kind: str, policy: DivergencePolicy
) -> None:
    """zfs keeps the partial state when it refuses the end of it, so each resume was refused alike."""
    async with open_hosts(kind, tmp_path) as hosts:
        await hosts.create("ztsrc/a")
        await hosts.fill("ztsrc/a", MIB)
        await hosts.snapshot("ztsrc/a", "1")
        assert (await hosts.run()).outcome is Outcome.DONE
        await hosts.fill("ztsrc/a", 16 * MIB, seed=2)
        await hosts.snapshot("ztsrc/a", "2")
        hosts.cable.cut_after = 8 * MIB
        replica = hosts.local("ztsrc/a")
        options = ReplicationOptions(divergence=policy)
        await hosts.run(ReplicationOptions(divergence=policy, attempts=1))
        partial = await hosts.zfs.dataset(replica)
        assert partial is not None
        assert partial.resume_token is not None
        await hosts.command("set", f"mountpoint={hosts.directory / 'work'}", replica)
        if (await hosts.value(replica, "mounted"))[0] != "yes":
            await hosts.command("mount", replica)
        await hosts.fill(replica, MIB, seed=5)
        await hosts.command("unmount", replica)
        report = await hosts.run(options)
        if report.outcome is not Outcome.DONE:  # one attempt may have gone to finding it out
            report = await hosts.run(options)
        assert report.outcome is Outcome.DONE, report.error
        assert (await hosts.received("ztsrc/a"))[-1] == "2"
