"""An immutable picture of one replication run, in the shape that zrepl's status shows.

The running attempt has one writer, which publishes a new picture at each change; readers keep
what they got. `to_json` gives zrepl's field names; what zrepl leaves unset is
`0001-01-01T00:00:00Z` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TypeAlias

from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.replication.classify import ErrorClass
from zrepl_trio.values import valueclass

__all__ = [
    "AttemptReport",
    "AttemptState",
    "BlockedOn",
    "FilesystemReport",
    "FilesystemState",
    "JsonValue",
    "Outcome",
    "Report",
    "StepReport",
    "TimedError",
]

JsonValue: TypeAlias = "Mapping[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"

_UNSET = "0001-01-01T00:00:00Z"


class AttemptState(Enum):
    """zrepl's words for an attempt."""

    PLANNING = "planning"
    PLANNING_ERROR = "planning-error"
    FAN_OUT = "fan-out-filesystems"
    FILESYSTEM_ERROR = "filesystem-error"
    DONE = "done"


class FilesystemState(Enum):
    """zrepl's words for one filesystem of an attempt."""

    PLANNING = "planning"
    PLANNING_ERROR = "planning-error"
    STEPPING = "stepping"
    STEP_ERROR = "step-error"
    DONE = "done"


class BlockedOn(Enum):
    """What a filesystem waits for."""

    NOTHING = "nothing"
    PLAN_QUEUE = "plan-queue"
    PARENT = "parent-initial-repl"
    STEP_QUEUE = "repl-queue"


class Outcome(Enum):
    """How a run ended, for exit codes and for the job; RUNNING until it has."""

    RUNNING = "running"
    DONE = "done"
    FILESYSTEMS_FAILED = "filesystems-failed"
    PLANNING_FAILED = "planning-failed"
    NOT_CONNECTED = "not-connected"


@valueclass(frozen=True, slots=True)
class TimedError:
    """An error's text, when it happened, and what can be done about it."""

    text: str
    time: datetime
    reaction: ErrorClass = ErrorClass.PERMANENT

    def to_json(self) -> JsonValue:
        return {"Err": self.text, "Time": _time(self.time)}


@valueclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step: `from_` and `to` carry their `@` or `#`, `from_` is empty for a full send.

    Sizes in bytes; `expected` 0 = unknown. A resumed step counts what this run moved. `taken` is
    when the snapshot `to` was, in seconds since the epoch.
    """

    from_: str
    to: str
    taken: int = 0
    resumed: bool = False
    expected: int = 0
    replicated: int = 0

    def to_json(self) -> JsonValue:
        return {
            "Info": {
                "From": self.from_,
                "To": self.to,
                "Resumed": self.resumed,
                "BytesExpected": self.expected,
                "BytesReplicated": self.replicated,
            }
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class FilesystemReport:
    """One filesystem in one attempt; `current` counts the finished steps.

    `note` tells what was done to go on by itself (a stale token dropped, say). `times` is None
    when a side could not be listed.
    """

    name: str
    state: FilesystemState = FilesystemState.PLANNING
    blocked_on: BlockedOn = BlockedOn.NOTHING
    plan_error: TimedError | None = None
    step_error: TimedError | None = None
    current: int = 0
    steps: tuple[StepReport, ...] = ()
    note: str = ""
    times: SnapshotTimes | None = None

    @property
    def error(self) -> TimedError | None:
        """What stopped it, if anything did."""
        return self.plan_error or self.step_error

    @property
    def replicated(self) -> int:
        """Bytes moved for it in this attempt."""
        return sum(step.replicated for step in self.steps)

    def to_json(self) -> JsonValue:
        return {
            "Info": {"Name": self.name},
            "State": self.state.value,
            "BlockedOn": self.blocked_on.value,
            "PlanError": _error(self.plan_error),
            "StepError": _error(self.step_error),
            "CurrentStep": self.current,
            "Steps": [step.to_json() for step in self.steps],
            **({"Note": self.note} if self.note else {}),
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One attempt of a run."""

    state: AttemptState
    start: datetime
    finish: datetime | None = None
    plan_error: TimedError | None = None
    filesystems: tuple[FilesystemReport, ...] = ()

    @property
    def failed(self) -> tuple[FilesystemReport, ...]:
        """The filesystems that did not get through."""
        return tuple(fs for fs in self.filesystems if fs.error is not None)

    def to_json(self) -> JsonValue:
        return {
            "State": self.state.value,
            "StartAt": _time(self.start),
            "FinishAt": _time(self.finish),
            "PlanError": _error(self.plan_error),
            "Filesystems": [fs.to_json() for fs in self.filesystems],
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run: its attempts, oldest first, and the wait for the link between two of them."""

    start: datetime
    finish: datetime | None = None
    outcome: Outcome = Outcome.RUNNING
    wait_since: datetime | None = None
    wait_until: datetime | None = None
    wait_error: TimedError | None = None
    attempts: tuple[AttemptReport, ...] = ()

    @property
    def last(self) -> AttemptReport | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def replicated(self) -> int:
        """Bytes moved in all attempts."""
        return sum(fs.replicated for attempt in self.attempts for fs in attempt.filesystems)

    @property
    def error(self) -> str:
        """Why the run did not succeed, for a person: empty when it did or still runs."""
        if self.outcome in {Outcome.RUNNING, Outcome.DONE} or self.last is None:
            return ""
        if self.last.plan_error is not None:
            return self.last.plan_error.text
        failed = self.last.failed
        texts = [f"{fs.name}: {fs.error.text}" for fs in failed if fs.error is not None]
        if len(texts) == 1:
            return texts[0]
        return f"{len(texts)} filesystems failed:\n" + "\n".join(texts)

    def to_json(self) -> JsonValue:
        return {
            "StartAt": _time(self.start),
            "FinishAt": _time(self.finish),
            "WaitReconnectSince": _time(self.wait_since),
            "WaitReconnectUntil": _time(self.wait_until),
            "WaitReconnectError": _error(self.wait_error),
            "Attempts": [attempt.to_json() for attempt in self.attempts],
        }


def _time(time: datetime | None) -> str:
    if time is None:
        return _UNSET
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _error(error: TimedError | None) -> JsonValue:
    return None if error is None else error.to_json()
