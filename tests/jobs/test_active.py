from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.jobs.snappers import TANK, every_ten_minutes
from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.jobs.active import ActiveJob, Progress, Result, Schedule, Work
from zrepl_trio.jobs.base import Invocation, JobType, Outcome, Phase, SignalRefused, Wishes
from zrepl_trio.jobs.lock import JobLocked, held_lock
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.freshness import DatasetFreshness
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    FilesystemReport,
    Report,
)
from zrepl_trio.snapshots.report import SnapperReport


class TimedWork:
    """Takes `duration_s`; remembers when it began and how it ended."""

    def __init__(self, duration_s: float = 0.0, result: Result | None = None) -> None:
        self.duration_s = duration_s
        self.result = result or Result(outcome=Outcome.DONE)
        self.begun: list[float] = []
        self.cancelled = 0
        self.patience: list[bool] = []

    async def __call__(
        self, publish: Callable[[Progress], None], /, *, patient: bool, wishes: Wishes
    ) -> Result:
        self.begun.append(trio.current_time())
        self.patience.append(patient)
        publish(Report(start=FollowingClock().now()))
        try:
            await trio.sleep(self.duration_s)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return self.result


def make(
    directory: Path,
    work: Work,
    interval_s: float | None = None,
    *,
    at_start: bool = False,
) -> ActiveJob:
    return ActiveJob(
        name="pull",
        type=JobType.PULL,
        schedule=Schedule(interval_s=interval_s, at_start=at_start),
        work=work,
        clock=FollowingClock(),
        runtime_dir=str(directory),
    )


async def test_it_first_acts_one_interval_after_its_start(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(5)
    job = make(tmp_path, work, 60)
    await nursery.start(job.run)
    await trio.sleep(200)
    assert work.begun == pytest.approx([60, 120, 180])
    nursery.cancel_scope.cancel()


async def test_in_the_old_form_it_acts_at_start_too(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(5)
    job = make(tmp_path, work, 60, at_start=True)
    await nursery.start(job.run)
    await trio.sleep(100)
    assert work.begun == pytest.approx([0, 60])
    nursery.cancel_scope.cancel()


async def test_a_tick_during_a_run_queues_exactly_one(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(150)
    job = make(tmp_path, work, 60)
    await nursery.start(job.run)
    await trio.sleep(65)
    work.duration_s = 1
    await trio.sleep(230)
    assert work.begun == pytest.approx([60, 210, 240])
    nursery.cancel_scope.cancel()


async def test_a_manual_job_acts_on_wakeup_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(5)
    job = make(tmp_path, work)
    await nursery.start(job.run)
    await trio.sleep(10_000)
    assert work.begun == []
    job.wakeup()
    status = job.status()
    assert status.phase is Phase.RUNNING
    assert status.invocation is not None
    assert status.invocation.number == 1
    await trio.sleep(6)
    status = job.status()
    assert status.phase is Phase.WAITING
    assert status.invocation is not None
    assert status.invocation.outcome is Outcome.DONE
    assert status.invocation.finished is not None
    assert status.replication is not None
    nursery.cancel_scope.cancel()


async def test_a_running_job_cannot_be_woken_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(5)
    job = make(tmp_path, work)
    await nursery.start(job.run)
    job.wakeup()
    with pytest.raises(SignalRefused, match=r"^already woken up$"):
        job.wakeup()
    await trio.sleep(20)
    assert len(work.begun) == 1
    nursery.cancel_scope.cancel()


async def test_reset_cancels_the_run_and_the_job_goes_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(1000)
    job = make(tmp_path, work, 60)
    await nursery.start(job.run)
    with pytest.raises(SignalRefused, match=r"^already reset$"):
        job.reset()
    await trio.sleep(130)  # a second tick is queued by now: it goes with the reset
    job.reset()
    await trio.sleep(1)
    assert work.cancelled == 1
    status = job.status()
    assert status.phase is Phase.WAITING
    assert status.invocation is not None
    assert status.invocation.outcome is Outcome.CANCELLED
    work.duration_s = 1
    await trio.sleep(60)
    assert work.begun == pytest.approx([60, 180])
    nursery.cancel_scope.cancel()


async def test_reset_right_after_wakeup_cancels_before_any_work(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(10)
    job = make(tmp_path, work)
    await nursery.start(job.run)
    job.wakeup()
    job.reset()
    await trio.sleep(1)
    status = job.status()
    assert status.invocation is not None
    assert status.invocation.outcome is Outcome.CANCELLED
    nursery.cancel_scope.cancel()


async def test_a_failed_run_is_told_and_the_next_one_comes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(1, Result(outcome=Outcome.CONNECT_FAILED, error="ssh: no route to host"))
    job = make(tmp_path, work, 60)
    await nursery.start(job.run)
    await trio.sleep(70)
    assert job.status().error == "ssh: no route to host"
    work.result = Result(outcome=Outcome.DONE)
    await trio.sleep(60)
    assert job.status().error == ""
    nursery.cancel_scope.cancel()


async def test_a_bug_in_the_work_ends_the_job_and_marks_the_run_failed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def broken(
        _publish: Callable[[Progress], None], /, *, patient: bool, wishes: Wishes
    ) -> Result:
        del patient, wishes
        raise ZeroDivisionError

    job = make(tmp_path, broken, at_start=True)
    with pytest.RaisesGroup(ZeroDivisionError):
        await job.run()
    status = job.status()
    assert status.invocation is not None
    assert status.invocation.outcome is Outcome.FAILED
    assert status.phase is Phase.STOPPED
    with pytest.raises(SignalRefused, match="not ready"):
        job.wakeup()


async def test_it_starts_again_after_a_bug_without_acting_at_start_twice(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(1)
    job = make(tmp_path, work, at_start=True)
    for _ in range(2):
        async with trio.open_nursery() as inner:
            await inner.start(job.run)
            await trio.sleep(10)
            inner.cancel_scope.cancel()
    assert len(work.begun) == 1


async def test_stopping_marks_the_run_cancelled_and_frees_the_lock(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    work = TimedWork(1000)
    job = make(tmp_path, work, at_start=True)
    async with trio.open_nursery() as inner:
        await inner.start(job.run)
        await trio.sleep(1)
        with pytest.raises(JobLocked), held_lock(str(tmp_path), "pull"):
            pytest.fail("the lock was free")
        inner.cancel_scope.cancel()
    status = job.status()
    assert status.invocation is not None
    assert status.invocation.outcome is Outcome.CANCELLED
    with held_lock(str(tmp_path), "pull"):
        pass


async def test_who_asks_for_a_run_is_told_at_once_what_the_schedule_would_wait_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    work = TimedWork(1)
    job = make(tmp_path, work, 60)
    await nursery.start(job.run)
    await trio.sleep(70)
    job.wakeup()
    await trio.sleep(2)
    assert work.patience == [True, False]
    nursery.cancel_scope.cancel()


async def test_run_once_gives_the_outcome_and_passes_on_reports(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    work = TimedWork(1, Result(outcome=Outcome.FILESYSTEM_ERRORS, error="tank/a: no space"))
    reports: list[Progress] = []
    invocation = await make(tmp_path, work, 60).run_once(reports.append)
    assert invocation.outcome is Outcome.FILESYSTEM_ERRORS
    assert invocation.error == "tank/a: no space"
    assert len(reports) == 1
    assert work.patience == [False]


async def test_run_once_respects_the_lock(tmp_path: Path) -> None:
    with held_lock(str(tmp_path), "pull"), pytest.raises(JobLocked):
        await make(tmp_path, TimedWork()).run_once(lambda _report: None)


class Watching:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def replicating(self, job: str, report: Report) -> None:
        self.told.append((job, report.start))

    def run_ended(self, job: str, run: Invocation) -> None:
        self.told.append((job, run.outcome))

    def pruned(self, job: str, report: PruneReport) -> None:
        self.told.append((job, report.state))

    def refused(self, job: str, client: str, count: int) -> None:
        raise AssertionError((job, client, count))

    def unmatched(self, job: str, count: int) -> None:
        raise AssertionError((job, count))

    def snapshotted(self, job: str, report: SnapperReport) -> None:
        raise AssertionError((job, report))


async def test_the_last_run_and_what_is_known_of_datasets_outlast_a_run_that_fails(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    times = SnapshotTimes(newest=20, replicated=10)
    filesystem = FilesystemReport(name="tank", times=times)
    states = [AttemptState.DONE, AttemptState.PLANNING, AttemptState.PLANNING_ERROR]
    watch = Watching()

    async def work(
        publish: Callable[[Progress], None], /, *, patient: bool, wishes: Wishes
    ) -> Result:
        now = FollowingClock().now()
        state = states.pop(0)
        planned = (filesystem,) if state is AttemptState.DONE else ()
        attempt = AttemptReport(state=state, start=now, filesystems=planned)
        publish(Report(start=now, attempts=(attempt,)))
        await trio.sleep(10)
        return Result(outcome=Outcome.DONE if planned else Outcome.FAILED)

    job = ActiveJob(
        name="pull",
        type=JobType.PULL,
        schedule=Schedule(interval_s=60),
        work=work,
        clock=FollowingClock(),
        runtime_dir=str(tmp_path),
        watch=watch,
    )
    await nursery.start(job.run)
    assert job.status().last_run is None
    outcomes = []
    for number in range(1, 4):
        await trio.sleep_until(60 * number + 5)  # in the middle of a run
        status = job.status()
        assert status.phase is Phase.RUNNING
        outcomes.append(status.last_run and status.last_run.outcome)
        assert status.freshness == (DatasetFreshness(dataset="tank", times=times),)
    assert outcomes == [None, Outcome.DONE, Outcome.FAILED]
    assert [what for job_, what in watch.told if job_ == "pull" and isinstance(what, Outcome)] == [
        Outcome.DONE,
        Outcome.FAILED,
    ]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("work_s", "begun"), [(5, [0, 600, 1200]), (700, [0, 700, 1400])])
async def test_a_push_follows_its_snapshots(
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    work_s: float,
    begun: list[float],
) -> None:
    clock = FollowingClock()
    snapper, zfs = every_ten_minutes(clock)
    work = TimedWork(work_s)
    job = ActiveJob(
        name="push",
        type=JobType.PUSH,
        schedule=Schedule(interval_s=None),
        work=work,
        clock=clock,
        runtime_dir=str(tmp_path),
        snapper=snapper,
    )
    await nursery.start(job.run)
    await trio.sleep(1500)
    assert work.begun == pytest.approx(begun)
    report = job.status().snapshots
    assert report is not None
    assert job.status().next_wakeup == report.next_at
    assert len(await zfs.versions(TANK)) == 3
    nursery.cancel_scope.cancel()


async def test_work_with_nurseries_of_its_own_is_not_taken_for_broken_when_the_daemon_stops(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def at_two_things(
        _publish: Callable[[Progress], None], /, *, patient: bool, wishes: Wishes
    ) -> Result:
        del patient, wishes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    job = make(tmp_path, at_two_things, at_start=True)
    async with trio.open_nursery() as inner:
        await inner.start(job.run)
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    status = job.status()
    assert status.invocation is not None
    assert status.invocation.outcome is Outcome.CANCELLED
    assert status.error == "the daemon is stopping"
