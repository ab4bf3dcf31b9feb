"""The one writer of a run's report.

Each change replaces one immutable piece. The new whole is published at once where an attempt begins
or ends; bytes and steps are at most twice a second, since they come by the thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, timedelta

import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.replication.classify import ErrorClass
from zrepl_trio.replication.plan import FilesystemPlan, Plan
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    BlockedOn,
    FilesystemReport,
    FilesystemState,
    Outcome,
    Report,
    StepReport,
    TimedError,
)
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["PUBLISH_EVERY_S", "Progress"]

PUBLISH_EVERY_S = 0.5
"""How often moved bytes and steps make a new report, at most."""


class Progress:
    """A run's state as reports. `monotonic` gives seconds and only spaces out publishing."""

    def __init__(
        self,
        *,
        clock: WallClock,
        publish: Callable[[Report], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._monotonic = monotonic
        self._published_at = float("-inf")
        self._report = Report(start=clock.now())
        self._filesystems: dict[DatasetPath, FilesystemReport] = {}
        self._moved: dict[DatasetPath, int] = {}
        self._running: dict[DatasetPath, int] = {}
        self._changed = False
        self._unpublished = trio.Event()

    @property
    def report(self) -> Report:
        """The newest picture."""
        return self._report

    @property
    def attempt(self) -> AttemptReport:
        """The running attempt's."""
        return self._report.attempts[-1]

    def filesystem(self, path: DatasetPath) -> FilesystemReport:
        """One filesystem of the running attempt."""
        return self._filesystems[path]

    def stamp(self) -> str:
        """The present moment, UTC, as it can stand in a dataset's name."""
        return self._clock.now().astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")

    def begin_attempt(self) -> None:
        self._filesystems = {}
        self._moved = {}
        self._running = {}
        attempt = AttemptReport(state=AttemptState.PLANNING, start=self._clock.now())
        self._set(
            replace(
                self._report,
                attempts=(*self._report.attempts, attempt),
                wait_since=None,
                wait_until=None,
                wait_error=None,
            )
        )

    def planning_failed(self, text: str, reaction: ErrorClass) -> None:
        """The attempt as a whole could not be planned."""
        self._set_attempt(
            replace(
                self.attempt,
                state=AttemptState.PLANNING_ERROR,
                plan_error=TimedError(text, self._clock.now(), reaction),
                finish=self._clock.now(),
            )
        )

    def planned(self, plans: Iterable[Plan]) -> None:
        """All filesystems are planned, or refused; the attempt goes on with their steps."""
        for plan in plans:
            self._filesystems[plan.filesystem.path] = self._planned(plan)
        self._set_attempt(replace(self.attempt, state=AttemptState.FAN_OUT))

    def blocked(self, path: DatasetPath, on: BlockedOn) -> None:
        filesystem = self._filesystems[path]
        if filesystem.blocked_on is not on:
            self._filesystems[path] = replace(filesystem, blocked_on=on)

    def expected(self, path: DatasetPath, index: int, sizes: Sequence[int | None]) -> None:
        """The step and those after it will move about so many bytes each, where that is known."""
        steps = list(self._filesystems[path].steps)
        for number, size in enumerate(sizes, index):
            if size:
                steps[number] = replace(steps[number], expected=size)
        self._filesystems[path] = replace(self._filesystems[path], steps=tuple(steps))
        self._refresh()

    def moved(self, path: DatasetPath, count: int) -> None:
        """`count` more bytes of the running step have moved. Called for every piece, so it only
        adds up; the report takes the sum when it is next made."""
        self._moved[path] = self._moved.get(path, 0) + count
        self._refresh()

    async def keep_fresh(self) -> None:
        """Publish what changed last also when nothing changes after it (a link that stalls), within
        PUBLISH_EVERY_S. To be run beside the steps, and cancelled with them."""
        while True:
            await self._unpublished.wait()
            self._unpublished = trio.Event()
            await trio.sleep(PUBLISH_EVERY_S)
            if self._changed:
                self._publish_all()

    def range_started(self, path: DatasetPath, steps: int) -> None:
        """The next steps run, that many in one stream."""
        self._running[path] = steps
        self.blocked(path, BlockedOn.NOTHING)
        self._refresh()

    def steps_done(self, path: DatasetPath, steps: int) -> None:
        """So many of the running ones have succeeded; of the rest nothing is known yet."""
        filesystem = self._filesystems[path]
        current = filesystem.current + steps
        self._filesystems[path] = replace(
            filesystem,
            current=current,
            steps=self._steps_now(path),
            times=SnapshotTimes(
                newest=filesystem.times.newest if filesystem.times else None,
                replicated=filesystem.steps[current - 1].taken,
            ),
            state=FilesystemState.DONE
            if current == len(filesystem.steps)
            else FilesystemState.STEPPING,
        )
        self._refresh()

    def step_failed(
        self, path: DatasetPath, text: str, reaction: ErrorClass = ErrorClass.PERMANENT
    ) -> None:
        self._count_moved()
        self._filesystems[path] = replace(
            self._filesystems[path],
            state=FilesystemState.STEP_ERROR,
            step_error=TimedError(text, self._clock.now(), reaction),
            blocked_on=BlockedOn.NOTHING,
        )
        self._publish_all()

    def attempt_finished(self) -> None:
        self._count_moved()
        failed = any(filesystem.error is not None for filesystem in self._filesystems.values())
        self._set_attempt(
            replace(
                self.attempt,
                state=AttemptState.FILESYSTEM_ERROR if failed else AttemptState.DONE,
                finish=self._clock.now(),
            )
        )

    def waiting(self, seconds: float, text: str) -> None:
        """The link is gone; for at most so long we wait for it."""
        now = self._clock.now()
        self._set(
            replace(
                self._report,
                wait_since=now,
                wait_until=now + timedelta(seconds=seconds),
                wait_error=TimedError(text, now, ErrorClass.RECONNECT),
            )
        )

    def finished(self, outcome: Outcome) -> Report:
        """The run is over; gives its last picture."""
        self._set(replace(self._report, outcome=outcome, finish=self._clock.now()))
        return self._report

    def _planned(self, plan: Plan) -> FilesystemReport:
        name = str(plan.filesystem.path)
        if not isinstance(plan, FilesystemPlan):
            return FilesystemReport(
                name=name,
                state=FilesystemState.PLANNING_ERROR,
                plan_error=TimedError(plan.text, self._clock.now()),
                times=plan.times,
            )
        steps = tuple(
            StepReport(
                from_=step.from_.relative if step.from_ is not None else "",
                to=step.to.relative,
                taken=step.to.creation,
                resumed=step.resume_token is not None,
            )
            for step in plan.steps
        )
        return FilesystemReport(
            name=name,
            state=FilesystemState.STEPPING if steps else FilesystemState.DONE,
            blocked_on=BlockedOn.STEP_QUEUE if steps else BlockedOn.NOTHING,
            steps=steps,
            note=plan.note,
            times=plan.times,
        )

    def _count_moved(self) -> None:
        for path in list(self._moved):
            filesystem = self._filesystems[path]
            self._filesystems[path] = replace(filesystem, steps=self._steps_now(path))

    def _steps_now(self, path: DatasetPath) -> tuple[StepReport, ...]:
        """Its steps with what has moved since they were looked at last."""
        filesystem, count = self._filesystems[path], self._moved.pop(path, 0)
        if not count:
            return filesystem.steps
        steps = list(filesystem.steps)
        last = filesystem.current + self._running.get(path, 1) - 1
        # Where in a range the stream is, only zfs knows: its steps are filled up in their order.
        for index in range(filesystem.current, last + 1):
            step = steps[index]
            room = max(step.expected - step.replicated, 0) if index < last else count
            steps[index] = replace(step, replicated=step.replicated + min(room, count))
            count -= min(room, count)
            if not count:
                break
        return tuple(steps)

    def _set_attempt(self, attempt: AttemptReport) -> None:
        attempt = replace(attempt, filesystems=tuple(self._filesystems.values()))
        self._set(replace(self._report, attempts=(*self._report.attempts[:-1], attempt)))

    def _refresh(self) -> None:
        if self._monotonic() - self._published_at >= PUBLISH_EVERY_S:
            self._publish_all()
        else:
            self._changed = True
            self._unpublished.set()

    def _publish_all(self) -> None:
        self._count_moved()
        self._set_attempt(self.attempt)

    def _set(self, report: Report) -> None:
        self._report = report
        self._changed = False
        self._published_at = self._monotonic()
        self._publish(report)
