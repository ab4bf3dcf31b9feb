"""The snap job: takes snapshots, answers signals, is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.jobs.snappers import TANK, every_ten_minutes
from zrepl_trio.jobs.base import Phase, SignalRefused
from zrepl_trio.jobs.lock import JobLocked
from zrepl_trio.jobs.snap import SnapJob
from zrepl_trio.zfs.memory import MemoryZfs


def make(directory: Path) -> tuple[SnapJob, MemoryZfs]:
    clock = FollowingClock()
    snapper, zfs = every_ten_minutes(clock)
    return SnapJob(name="snap", snapper=snapper, runtime_dir=str(directory)), zfs


async def test_it_takes_snapshots_until_it_is_stopped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    job, zfs = make(tmp_path)
    async with trio.open_nursery() as nursery:
        assert job.status().phase is Phase.STARTING
        await nursery.start(job.run)
        await trio.sleep(1500)
        assert job.status().phase is Phase.WAITING
        assert job.status().next_wakeup is not None
        nursery.cancel_scope.cancel()
    assert job.status().phase is Phase.STOPPED
    assert len(await zfs.versions(TANK)) == 3


async def test_only_one_of_a_name_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    await nursery.start(make(tmp_path)[0].run)
    other, _ = make(tmp_path)
    with pytest.raises(JobLocked):
        await other.run()
    nursery.cancel_scope.cancel()


async def test_without_a_snapshotter_it_stands_by(tmp_path: Path, nursery: trio.Nursery) -> None:
    job = SnapJob(name="snap", snapper=None, runtime_dir=str(tmp_path))
    await nursery.start(job.run)
    assert job.status().phase is Phase.WAITING
    with pytest.raises(SignalRefused, match="prune"):
        job.wakeup()
    with pytest.raises(SignalRefused, match="already reset"):
        job.reset()
    nursery.cancel_scope.cancel()
