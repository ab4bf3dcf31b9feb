"""Replicas that were written to: shown by the plan, settled by the job's policy, or refused by zfs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.notation import path
from tests.replication.pair import MIB, ROOT, Pair
from tests.replication.test_divergence import pushed
from zrepl_trio.cli.planview import plan_lines
from zrepl_trio.errors import ReceiveRefused, RemoteError, ZfsError
from zrepl_trio.replication.classify import says_modified
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.preview import FilesystemPreview, preview
from zrepl_trio.replication.report import Outcome

REPLICA = path(f"{ROOT}/tank/a")
FAIL, ROLLBACK, KEEP_COPY = (
    ReplicationOptions(divergence=policy)
    for policy in (DivergencePolicy.FAIL, DivergencePolicy.ROLLBACK, DivergencePolicy.KEEP_COPY)
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ReceiveRefused("x: destination x has been modified since most recent snapshot"), True),
        (RemoteError("destination x has been modified\nsince most recent snapshot\n"), True),
        (ZfsError("x: out of space"), False),
    ],
)
def test_zfs_says_it_in_its_own_words(error: ZfsError | RemoteError, *, says: bool) -> None:
    assert says_modified(error) is says


@pytest.fixture
async def pair() -> Pair:
    """tank/a and tank/b replicated, then tank/a's replica changed, and a new snapshot on both."""
    made = Pair()
    for name in ("tank/a", "tank/b"):
        made.fill(name, MIB)
        await made.snapshot(name, "1")
    assert (await made.run()).outcome is Outcome.DONE
    made.target.write(REPLICA, {"mine": bytes(3000)})
    for name in ("tank/a", "tank/b"):
        await made.snapshot(name, "2")
    return made


async def names(pair: Pair, dataset: str) -> list[str]:
    listed = await pair.target.versions(path(dataset))
    return [version.name for version in listed if version.is_snapshot]


async def copies(pair: Pair) -> list[str]:
    return [d.path for d in await pair.target.datasets([ROOT]) if ".diverged-" in d.path]


async def planned(pair: Pair, options: ReplicationOptions) -> FilesystemPreview:
    plan = await plan_all(
        pair.sender, pair.receiver, options=options, decode_token=pair.source.decode_token
    )
    first, second = preview(plan, lambda _path, _index: 1000, options.protection)
    assert second.kind == ""
    return first


def text(shown: FilesystemPreview) -> str:
    return "\n".join(line.plain.rstrip() for line in plan_lines("job", "pull", "u@h:22", [shown]))


async def test_the_plan_says_that_it_may_be(pair: Pair) -> None:
    shown = await planned(pair, FAIL)
    assert shown.kind == "receiver modified"
    assert [step.to for step in shown.steps] == ["@2"]
    said = text(shown)
    assert "receiver modified? 1.0 MiB were written there since @1" in said
    assert (
        "rollback: rolls the replica back to @1; destroys what was written since, 1.0 MiB" in said
    )
    rolled = await planned(pair, ROLLBACK)
    assert rolled.resolution is not None
    assert "first rollback: rolls the replica back to @1" in text(rolled)


async def test_by_default_zfs_refuses_and_the_ways_out_are_named(pair: Pair) -> None:
    report = await pair.run(options=FAIL)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert len(report.attempts) == 1
    assert f"{REPLICA}: " in report.error
    assert "conflict_resolution.divergence" in report.error
    assert await names(pair, REPLICA) == ["1"]
    assert pair.target.read(REPLICA)["mine"] == bytes(3000)
    assert await names(pair, f"{ROOT}/tank/b") == ["1", "2"]


async def test_rollback_loses_what_was_written(pair: Pair) -> None:
    report = await pair.run(options=ROLLBACK)
    assert report.outcome is Outcome.DONE, report.error
    assert len(report.attempts) == 1
    assert await names(pair, REPLICA) == ["1", "2"]
    assert pair.same("tank/a", "2")
    assert "mine" not in pair.target.read(REPLICA)


@pytest.mark.parametrize("far", [False, True], ids=["here", "at the far end"])
async def test_keep_copy_waits_for_zfs_to_say_so(
    pair: Pair, autojump_clock: trio.abc.Clock, *, far: bool
) -> None:
    report = await (pushed(pair, pair.receiver, KEEP_COPY) if far else pair.run(options=KEEP_COPY))
    assert report.outcome is Outcome.DONE, report.error
    assert len(report.attempts) == 2
    (copy,) = await copies(pair)
    assert await names(pair, copy) == ["1"]
    assert pair.target.read(copy)["mine"] == bytes(3000)
    assert await names(pair, REPLICA) == ["2"]
    assert pair.same("tank/a", "2")
    await pair.snapshot("tank/a", "3")
    assert (await pair.run(options=KEEP_COPY)).outcome is Outcome.DONE
    assert await copies(pair) == [copy]


async def test_what_a_mere_mount_has_written_is_no_reason_to_send_anew(pair: Pair) -> None:
    pair.target.write(REPLICA, {"mine": None})
    pair.target.world.open(REPLICA).size = 4096
    assert (await planned(pair, KEEP_COPY)).kind == "receiver modified"
    report = await pair.run(options=KEEP_COPY)
    assert report.outcome is Outcome.DONE, report.error
    assert await copies(pair) == []
    assert await names(pair, REPLICA) == ["1", "2"]


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts(request.param, tmp_path) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("options", [ROLLBACK, KEEP_COPY], ids=["rollback", "keep_copy"])
async def test_a_modified_replica_is_settled_by_zfs_commands(
    hosts: Hosts, options: ReplicationOptions
) -> None:
    await hosts.create("ztsrc/a")
    await hosts.fill("ztsrc/a", MIB)
    await hosts.snapshot("ztsrc/a", "1")
    assert (await hosts.run()).outcome is Outcome.DONE
    replica = hosts.local("ztsrc/a")

    # mounted and looked at: it goes on as if nothing had been, if only no times of access are kept
    await hosts.command("set", "atime=off", replica)
    assert await hosts.same("ztsrc/a", "1")
    await hosts.snapshot("ztsrc/a", "2")
    report = await hosts.run(options)
    assert report.outcome is Outcome.DONE, report.error
    assert await hosts.received("ztsrc/a") == ["1", "2"]

    await hosts.command("set", f"mountpoint={hosts.directory / 'work'}", replica)
    if (await hosts.value(replica, "mounted"))[0] != "yes":
        await hosts.command("mount", replica)
    await hosts.fill(replica, MIB, seed=5)
    await hosts.command("unmount", replica)
    await hosts.snapshot("ztsrc/a", "3")
    refused = await hosts.run()
    assert refused.outcome is Outcome.FILESYSTEMS_FAILED
    assert "has been modified since most recent snapshot" in refused.error
    report = await hosts.run(options)
    assert report.outcome is Outcome.DONE, report.error
    assert (await hosts.received("ztsrc/a"))[-1] == "3"
    assert await hosts.same("ztsrc/a", "3")
