"""The snap job: takes snapshots and thins them out, answers signals, is stopped."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.jobs.snappers import TANK
from zrepl_trio.config.load import parse_config
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.base import Outcome, Phase, SignalRefused, Wishes
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.lock import JobLocked
from zrepl_trio.jobs.world import World
from zrepl_trio.zfs.memory import MemoryZfs

PERIODIC = "{type: periodic, interval: 10m, prefix: zrepl_}"
LAST_TWO = "{keep: [{type: last_n, count: 2}]}"


def make(
    directory: Path, *, snapshotting: str = PERIODIC, pruning: str = LAST_TWO
) -> tuple[ActiveJob, MemoryZfs]:
    clock = FollowingClock()
    zfs = MemoryZfs(rng=random.Random(1), clock=clock, pools=[TANK])
    text = f"""
global: {{control: {{sockpath: {directory}/control}}}}
jobs:
- name: snap
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting: {snapshotting}
  pruning: {pruning}
"""
    (job,) = build_jobs(parse_config(text).config, World(clock=clock, zfs=zfs))
    assert isinstance(job, ActiveJob)
    return job, zfs


async def names(zfs: MemoryZfs) -> list[str]:
    return [version.name for version in await zfs.versions(TANK)]


async def test_it_takes_snapshots_and_thins_them_out_until_it_is_stopped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    job, zfs = make(tmp_path)
    async with trio.open_nursery() as nursery:
        assert job.status().phase is Phase.STARTING
        await nursery.start(job.run)
        await trio.sleep(1500)
        status = job.status()
        assert status.phase is Phase.WAITING
        assert status.next_wakeup is not None
        assert status.last_run is not None
        assert (status.last_run.number, status.last_run.outcome) == (3, Outcome.DONE)
        (report,) = status.pruning
        assert report.destroyed == 1
        assert len(await names(zfs)) == 2
        await trio.sleep(1200)
        nursery.cancel_scope.cancel()
    assert job.status().phase is Phase.STOPPED
    assert len(await names(zfs)) == 2


async def test_only_one_of_a_name_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    await nursery.start(make(tmp_path)[0].run)
    other, _ = make(tmp_path)
    with pytest.raises(JobLocked):
        await other.run()
    nursery.cancel_scope.cancel()


async def test_without_a_snapshotter_a_wakeup_prunes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    job, zfs = make(tmp_path, snapshotting="{type: manual}")
    for name in "abc":
        await zfs.snapshot(TANK, name)
        await trio.sleep(1)
    await nursery.start(job.run)
    assert job.status().phase is Phase.WAITING
    with pytest.raises(SignalRefused, match="already reset"):
        job.reset()
    job.wakeup()
    await trio.sleep(1)
    assert await names(zfs) == ["b", "c"]
    nursery.cancel_scope.cancel()


async def test_what_it_did_not_take_stays_until_somebody_says_it_may_go(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    job, zfs = make(tmp_path)
    await zfs.snapshot(TANK, "before-upgrade")
    await trio.sleep(1)
    await nursery.start(job.run)
    await trio.sleep(1500)
    assert "before-upgrade" in await names(zfs)
    assert [report.foreign for report in job.status().pruning] == [1]
    job.wakeup(Wishes(destroy_foreign=True))
    await trio.sleep(1)
    assert "before-upgrade" not in await names(zfs)
    assert len(await names(zfs)) == 2
    nursery.cancel_scope.cancel()


async def test_rules_that_keep_all_ask_zfs_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    job, zfs = make(tmp_path, pruning='{keep: [{type: regex, regex: ".*"}]}')
    asked: list[str] = []

    async def note(call: str, _dataset: str) -> None:
        asked.append(call)

    zfs.before = note
    invocation = await job.run_once(lambda _picture: None)
    assert (invocation.outcome, asked) == (Outcome.DONE, [])
    assert job.status().pruning == ()
