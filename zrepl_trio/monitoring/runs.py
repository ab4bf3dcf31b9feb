"""Adds up what the pictures of a job's runs tell, over all its runs since the daemon's start.

A picture costs the same however many filesystems it shows, as it may come hundreds of times a
second: only the last of each run is read in full, when the next run begins or somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from zrepl_trio.jobs.base import Invocation, Outcome
from zrepl_trio.replication.classify import ErrorClass
from zrepl_trio.replication.report import AttemptState, Report

__all__ = ["NOT_ENUMERATED", "RunTotals", "StateTime"]

NOT_ENUMERATED = -1
"""zrepl's count of failed filesystems for a run that did not come to know which there are."""

_TIMED = {AttemptState.PLANNING, AttemptState.FAN_OUT}


@dataclass(frozen=True, slots=True)
class StateTime:
    """An attempt was in `state` for `seconds`."""

    state: str
    seconds: float


@dataclass(slots=True)
class RunTotals:
    """One job's. `failed` counts the last run's failed filesystems, 0 before there was one as in zrepl;
    `succeeded` is when a run last ended well."""

    runs: Counter[Outcome] = field(default_factory=Counter)
    failed: int = 0
    succeeded: datetime | None = None
    _bytes: Counter[str] = field(default_factory=Counter)
    _errors: Counter[ErrorClass] = field(default_factory=Counter)
    _latest: Report | None = None
    _state: tuple[datetime, int, AttemptState] | None = None
    _since_s: float = 0.0

    def picture(self, report: Report, now_s: float) -> StateTime | None:
        """Take a new picture, made at `now_s`; the time of the state that it shows to be over."""
        if self._latest is not None and self._latest.start != report.start:
            self._bytes.update(_bytes_of(self._latest))
            self._errors.update(_errors_of(self._latest))
        self._latest = report
        attempt = report.last
        before = self._state
        after = (report.start, len(report.attempts), attempt.state) if attempt else None
        if before == after:
            return None
        ended_after_s, self._since_s, self._state = now_s - self._since_s, now_s, after
        if before is None or after is None or before[:2] != after[:2] or before[2] not in _TIMED:
            return None
        return StateTime(before[2].value, ended_after_s)

    def ended(self, run: Invocation) -> None:
        """The run of the last picture is over, or one that came to none."""
        assert run.outcome is not None
        self.runs[run.outcome] += 1
        pictured = self._latest is not None and self._latest.start >= run.started
        match run.outcome:
            case Outcome.DONE:
                self.failed, self.succeeded = 0, run.finished
            case Outcome.FILESYSTEM_ERRORS:
                attempt = self._latest.last if self._latest is not None else None
                self.failed = len(attempt.failed) if attempt is not None else NOT_ENUMERATED
            case Outcome.CONNECT_FAILED | Outcome.FAILED:
                self.failed = NOT_ENUMERATED
                if not pictured:
                    unreached = run.outcome is Outcome.CONNECT_FAILED
                    kind = ErrorClass.RECONNECT if unreached else ErrorClass.PERMANENT
                    self._errors[kind] += 1
            case Outcome.CANCELLED:
                pass

    @property
    def moved(self) -> Mapping[str, int]:
        """Bytes received, by filesystem."""
        return self._bytes + Counter(_bytes_of(self._latest))

    @property
    def errors(self) -> Mapping[ErrorClass, int]:
        """Errors of filesystems, and of attempts as a whole, by what can be done about them."""
        counted = self._errors + Counter(_errors_of(self._latest))
        return {kind: counted[kind] for kind in ErrorClass}


def _bytes_of(report: Report | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    for attempt in report.attempts if report is not None else ():
        for filesystem in attempt.filesystems:
            counted[filesystem.name] += filesystem.replicated
    return counted


def _errors_of(report: Report | None) -> Iterator[ErrorClass]:
    for attempt in report.attempts if report is not None else ():
        if attempt.plan_error is not None:
            yield attempt.plan_error.reaction
        for filesystem in attempt.failed:
            if filesystem.error is not None:
                yield filesystem.error.reaction
