"""The snapshotter on `zfs` commands: the emulated ones everywhere, the real ones where there are any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.notation import path
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.timestamps import SnapshotNaming
from zrepl_trio.replication.report import Outcome
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import FilesystemVersion

pytestmark = pytest.mark.slow


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts(request.param, tmp_path) as opened:
        yield opened


async def test_snapshots_are_taken_and_replicated(hosts: Hosts) -> None:
    for name in ("ztsrc/a", "ztsrc/b", "ztsrc/no"):
        await hosts.create(name)
    snapper = Snapper(
        hosts.zfs,
        filesystems=FilesystemFilter.of({"ztsrc<": True, "ztsrc": False, "ztsrc/no": False}),
        naming=SnapshotNaming.checked("zrepl_", "iso-8601", "Europe/Berlin"),
        rhythm=1.0,
        clock=SystemClock(),
    )
    rounds = 0

    async with trio.open_nursery() as nursery:

        def taken() -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 2:
                nursery.cancel_scope.cancel()

        nursery.start_soon(snapper.run, taken)
    assert snapper.report.errors == ()
    report = await hosts.run()
    names = await hosts.received("ztsrc/a")
    assert len(names) == 1  # the newest, at first
    assert names[0].startswith("zrepl_20")
    assert names[0].endswith(("_0100", "_0200"))
    taken_names = await hosts.command("list", "-H", "-o", "name", "-t", "snapshot", "-r", "ztsrc")
    assert sorted(line.partition("@")[0] for line in taken_names.split()) == [
        *["ztsrc/a"] * 2,
        *["ztsrc/b"] * 2,
    ]
    assert report.outcome is Outcome.FILESYSTEMS_FAILED  # ztsrc/no has nothing to send


async def test_one_moment_for_all_and_none_for_what_was_not_written_to(hosts: Hosts) -> None:
    for name in ("ztsrc/a", "ztsrc/b", "ztsrc/b/below"):
        await hosts.create(name, "-o", "atime=off")
        await hosts.fill(name, 100_000)
    snapper = Snapper(
        hosts.zfs,
        filesystems=FilesystemFilter.of({"ztsrc<": True, "ztsrc": False}),
        naming=SnapshotNaming.checked("zrepl_", "iso-8601", "UTC"),
        rhythm=3600.0,
        clock=SystemClock(),
        atomic=True,
        skip_unchanged=True,
    )
    await snapper._take()
    assert snapper.report.errors == ()
    first = {name: await newest(hosts, name) for name in ("ztsrc/a", "ztsrc/b", "ztsrc/b/below")}
    assert len({each.createtxg for each in first.values()}) == 1
    assert len({each.name for each in first.values()}) == 1
    await hosts.fill("ztsrc/b", 100_000, seed=1)
    await hosts.snapshot("ztsrc/b", "another")  # hides from `written` what went before
    await hosts.snapshot("ztsrc/a", "another")
    await snapper._take()
    told = {each.path: (each.unchanged, each.error) for each in snapper.report.progress}
    assert told == {
        "ztsrc/a": (True, ""),
        "ztsrc/b": (False, ""),
        "ztsrc/b/below": (True, ""),
    }
    assert (await newest(hosts, "ztsrc/b")).name.startswith("zrepl_")
    assert (await newest(hosts, "ztsrc/a")).name == "another"


async def newest(hosts: Hosts, name: str) -> FilesystemVersion:
    return (await hosts.zfs.versions(path(name)))[-1]
