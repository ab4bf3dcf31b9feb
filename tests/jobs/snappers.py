"""A snapshotter for the tests of jobs that have one."""

from __future__ import annotations

import random

from tests.jobs.clocks import FollowingClock
from zrepl_trio.config.timestamps import SnapshotNaming
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["TANK", "every_ten_minutes"]

TANK = DatasetPath.parse("tank")


def every_ten_minutes(clock: FollowingClock) -> tuple[Snapper, MemoryZfs]:
    """Of the one filesystem of a pool in memory, TANK."""
    zfs = MemoryZfs(rng=random.Random(1), clock=clock, pools=[TANK])
    snapper = Snapper(
        zfs,
        filesystems=FilesystemFilter.of({"tank<": True}),
        naming=SnapshotNaming.checked("zrepl_", "dense", "UTC"),
        rhythm=600.0,
        clock=clock,
    )
    return snapper, zfs
