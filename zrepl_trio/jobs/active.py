"""The active job: waits for a tick, snapshots or a signal, does its work, and waits again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeAlias

import structlog
import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.errors import leaves
from zrepl_trio.jobs.base import (
    NO_WISHES,
    Invocation,
    JobStatus,
    JobType,
    Outcome,
    Phase,
    SignalRefused,
    Wishes,
)
from zrepl_trio.jobs.lock import held_lock
from zrepl_trio.jobs.ticker import Ticker
from zrepl_trio.jobs.watch import UNWATCHED, Watch
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.freshness import DatasetFreshness, after_report
from zrepl_trio.replication.report import Report
from zrepl_trio.snapshots.report import SnapperReport, SnapperState
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.values import valueclass

__all__ = ["ActiveJob", "Progress", "Result", "Schedule", "Work"]

Progress: TypeAlias = Report | PruneReport
"""A new picture of what goes on: of the replication, or of one side's pruning."""

_SNAPSHOTTING = {SnapperState.PLANNING, SnapperState.SNAPSHOTTING}

log = structlog.get_logger()


@valueclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job acts unasked: every `interval_s` (None: never) and, if so, at start.

    zrepl 0.7 first pulls one interval after its start; 0.0.x pulled at start (reference 6.5, 10.1).
    """

    interval_s: float | None
    at_start: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the work of an invocation ended; `error` is for a person."""

    outcome: Outcome
    error: str = ""


class Work(Protocol):
    """What an invocation does; `publish` takes each new picture of its progress.

    A `patient` one waits for a peer that cannot be reached at first; one that somebody asked for
    fails at once, and acts by that person's `wishes`. Expected failures are a Result; whatever it raises is a bug and goes to the
    supervisor.
    """

    def __call__(
        self, publish: Callable[[Progress], None], /, *, patient: bool, wishes: Wishes
    ) -> Awaitable[Result]: ...


class ActiveJob:
    """A `push`, `pull` or `snap` job. Its lock is held for as long as `run` runs. A `snapper` takes snapshots,
    each time followed by an invocation.

    `needs` names the job of this process that must serve for this one to reach anything, if there
    is one.
    """

    def __init__(
        self,
        *,
        name: str,
        type: JobType,  # noqa: A002 - as in the config
        schedule: Schedule,
        work: Work,
        clock: WallClock,
        runtime_dir: str | None,
        needs: str | None = None,
        watch: Watch = UNWATCHED,
        snapper: Snapper | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.needs = needs
        self._schedule = schedule
        self.work = work
        self._clock = clock
        self._runtime_dir = runtime_dir
        self._invocation: Invocation | None = None
        self._report: Report | None = None
        self._scope = trio.CancelScope()
        self._go = trio.Event()
        self._queued = False
        self._phase = Phase.STARTING
        self._ticker: Ticker | None = None
        self._at_start = schedule.at_start
        self._patient = True
        self._wishes: Wishes = NO_WISHES
        self._watch = watch
        self._snapper = snapper
        self._show: Callable[[Progress], None] = lambda _picture: None
        self._pruning: dict[PruneSide, PruneReport] = {}
        self._foreign: dict[PruneSide, int] = {}
        self._last_run: Invocation | None = None
        self._known: Mapping[str, SnapshotTimes] = {}

    @property
    def _running(self) -> bool:
        return self._invocation is not None and self._invocation.outcome is None

    @property
    def _snapshotting(self) -> bool:
        """Whether that is what a snap job does now; the others are busy with more."""
        report = self._snapper.report if self._snapper and self.type is JobType.SNAP else None
        waits = self._phase is Phase.WAITING
        return waits and report is not None and report.state in _SNAPSHOTTING

    def status(self) -> JobStatus:
        invocation = self._invocation
        return JobStatus(
            name=self.name,
            type=self.type,
            phase=Phase.RUNNING if self._running or self._snapshotting else self._phase,
            error=invocation.error if invocation else "",
            next_wakeup=self._next_wakeup(),
            invocation=invocation,
            last_run=self._last_run,
            replication=self._report,
            pruning=tuple(self._pruning.values()),
            freshness=tuple(
                DatasetFreshness(dataset=dataset, times=times)
                for dataset, times in self._known_now().items()
            ),
            snapshots=self._snapshots(),
        )

    def _next_wakeup(self) -> datetime | None:
        if self._snapper is not None:
            return self._snapper.report.next_at
        return self._ticker.next_tick if self._ticker else None

    def _snapshots(self) -> SnapperReport | None:
        if self.type is JobType.PULL:
            return None
        return self._snapper.report if self._snapper else SnapperReport(kind="manual")

    def _known_now(self) -> Mapping[str, SnapshotTimes]:
        return after_report(self._known, self._report) if self._report else self._known

    def wakeup(self, wishes: Wishes = NO_WISHES) -> None:
        if self._phase is not Phase.WAITING:
            raise SignalRefused(f"job {self.name} is not ready: {self._phase.value}")
        if self._running:
            raise SignalRefused("already woken up")
        self._begin(patient=False, wishes=wishes)

    def reset(self) -> None:
        if not self._running:
            raise SignalRefused("already reset")
        log.info("invocation reset by signal")
        self._queued = False
        self._scope.cancel()

    def _begin(self, *, patient: bool = True, wishes: Wishes = NO_WISHES) -> None:
        """From here on the job counts as running, so that whoever woke it sees it in `status`."""
        number = self._invocation.number + 1 if self._invocation else 1
        self._invocation = Invocation(number=number, started=self._clock.now())
        self._scope = trio.CancelScope()
        self._patient = patient
        self._wishes = wishes
        self._go.set()

    async def run_once(
        self, publish: Callable[[Progress], None], wishes: Wishes = NO_WISHES
    ) -> Invocation:
        """One invocation, now and without patience; how it ended. JobLocked as for `run`."""
        with held_lock(self._runtime_dir, self.name):
            self._show = publish
            self._begin(patient=False, wishes=wishes)
            return await self._invoke()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with held_lock(self._runtime_dir, self.name):
            self._phase = Phase.WAITING
            self._go = trio.Event()
            self._queued = False
            try:
                async with trio.open_nursery() as nursery:
                    if self._schedule.interval_s is not None:
                        self._ticker = Ticker(self._schedule.interval_s, self._clock)
                        nursery.start_soon(self._tick, self._ticker)
                    if self._snapper is not None:
                        nursery.start_soon(self._snapper.run, self._snapshots_taken)
                    if self._at_start:
                        self._at_start = False
                        self._begin()
                    task_status.started()
                    await self._invoke_when_woken()
            finally:
                self._phase = Phase.STOPPED
                self._ticker = None

    async def _tick(self, ticker: Ticker) -> None:
        while True:
            await ticker.tick()
            if self._running:
                log.warning("interval passed during a run; the next run follows at once")
                self._queued = True
            else:
                self._begin()

    def _snapshots_taken(self) -> None:
        # zrepl leaves them to the next snapshot when a run goes on
        if self._running:
            log.info("snapshots were taken during a run; the next run follows at once")
            self._queued = True
        else:
            self._begin()

    async def _invoke_when_woken(self) -> None:
        while True:
            await self._go.wait()
            self._go = trio.Event()
            await self._invoke()
            if self._queued:
                self._queued = False
                self._begin()

    async def _invoke(self) -> Invocation:
        result = Result(outcome=Outcome.FAILED, error="stopped by an internal error, see the log")
        log.info("invocation started", invocation=self._invocation and self._invocation.number)
        try:
            with self._scope:
                result = await self.work(self._publish, patient=self._patient, wishes=self._wishes)
            if self._scope.cancelled_caught:
                result = Result(outcome=Outcome.CANCELLED, error="reset by signal")
        except BaseException as error:
            # nurseries within the work make a group of it
            if all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):
                result = Result(outcome=Outcome.CANCELLED, error="the daemon is stopping")
            raise
        finally:
            assert self._invocation is not None
            self._invocation = replace(
                self._invocation,
                finished=self._clock.now(),
                outcome=result.outcome,
                error=result.error,
            )
            say = log.info if result.outcome is Outcome.DONE else log.error
            say(
                "invocation finished",
                invocation=self._invocation.number,
                outcome=result.outcome.value,
                **({"err": result.error} if result.error else {}),
            )
            self._last_run = self._invocation
            self._watch.run_ended(self.name, self._invocation)
        return self._invocation

    def _publish(self, picture: Progress) -> None:
        if isinstance(picture, PruneReport):
            self._publish_pruning(picture)
            return
        if self._report is not None and picture.start != self._report.start:
            self._known = self._known_now()
        self._report = picture
        self._show(picture)
        self._watch.replicating(self.name, picture)

    def _publish_pruning(self, picture: PruneReport) -> None:
        self._pruning[picture.side] = picture
        self._show(picture)
        if picture.finished is None:
            return
        self._watch.pruned(self.name, picture)
        if not picture.was_planned:
            return
        if picture.foreign and picture.foreign != self._foreign.get(picture.side):
            log.warning(
                "snapshots that the job did not take are left until somebody confirms that they go",
                side=picture.side.value,
                snapshots=picture.foreign,
                next=f"`zrepl-trio plan --prune {self.name}` shows them",
            )
        self._foreign[picture.side] = picture.foreign
