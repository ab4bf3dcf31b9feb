from __future__ import annotations

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
    progress.step_started(TANK)
    for _ in range(1000):
        progress.moved(TANK, 10)
    assert reports[-1].replicated < 10_000
    count = len(reports)
    await trio.sleep(2 * PUBLISH_EVERY_S)
    assert reports[-1].replicated == 10_000
    await trio.sleep(1000)
    assert len(reports) == count + 1
    nursery.cancel_scope.cancel()
