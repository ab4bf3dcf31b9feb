"""The snapshotter on `zfs` commands: the emulated ones everywhere, the real ones where there are any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.replication.hosts import Hosts, open_hosts
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.timestamps import SnapshotNaming
from zrepl_trio.replication.report import Outcome
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.zfs.filter import FilesystemFilter

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
