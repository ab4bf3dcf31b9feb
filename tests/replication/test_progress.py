from __future__ import annotations

from itertools import pairwise

import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.replication.notation import path
from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.replication.plan import FilesystemPlan, Step
from zrepl_trio.replication.progress import PUBLISH_EVERY_S, Progress
from zrepl_trio.replication.report import Report
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

TANK = path("tank/a")


async def test_what_moved_before_a_stall_is_shown_soon(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    reports: list[Report] = []
    progress = Progress(clock=FollowingClock(), publish=reports.append, monotonic=trio.current_time)
    version = FilesystemVersion(
        kind=VersionKind.SNAPSHOT, name="1", guid=1, createtxg=1, creation=1
    )
    plan = FilesystemPlan(
        filesystem=Filesystem(path=TANK), steps=(Step(to=version),), exists=False, present=False
    )
    nursery.start_soon(progress.keep_fresh)
    progress.begin_attempt()
    progress.planned([plan])
    progress.range_started(TANK, 1)
    for _ in range(1000):
        progress.moved(TANK, 10)
    assert reports[-1].replicated < 10_000
    count = len(reports)
    await trio.sleep(2 * PUBLISH_EVERY_S)
    assert reports[-1].replicated == 10_000
    await trio.sleep(1000)
    assert len(reports) == count + 1
    nursery.cancel_scope.cancel()


async def test_the_bytes_of_a_range_fill_its_steps_in_their_order() -> None:
    progress = Progress(clock=FollowingClock(), publish=lambda _: None, monotonic=lambda: 0.0)
    versions = [
        FilesystemVersion(kind=VersionKind.SNAPSHOT, name=str(n), guid=n, createtxg=n, creation=n)
        for n in range(1, 6)
    ]
    steps = tuple(Step(from_=a, to=b) for a, b in pairwise(versions))
    progress.begin_attempt()
    progress.planned(
        [FilesystemPlan(filesystem=Filesystem(path=TANK), steps=steps, exists=True, present=True)]
    )
    progress.expected(TANK, 0, [100, 200, 50])
    progress.range_started(TANK, 3)
    progress.moved(TANK, 120)
    progress.steps_done(TANK, 1)
    assert [step.replicated for step in progress.filesystem(TANK).steps] == [100, 20, 0, 0]
    progress.range_started(TANK, 2)
    progress.moved(TANK, 300)
    progress.steps_done(TANK, 2)
    shown = progress.filesystem(TANK)
    assert [step.replicated for step in shown.steps] == [100, 200, 120, 0]
    assert shown.current == 3
    assert shown.times is not None
    assert shown.times.replicated == 4
