"""What a snapshotter does and did, as `status` shows it: in zrepl's document (behaviour reference 6.7)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import IntEnum

from zrepl_trio.replication.report import JsonValue
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["FilesystemState", "SnapperReport", "SnapperState", "TakenSnapshot"]


class SnapperState(IntEnum):
    """zrepl's numbers."""

    SYNC_UP = 1
    SYNC_UP_ERROR_WAIT = 2
    PLANNING = 4
    SNAPSHOTTING = 8
    WAITING = 16
    ERROR_WAIT = 32
    STOPPED = 64


class FilesystemState(IntEnum):
    """zrepl's numbers."""

    PENDING = 1
    STARTED = 2
    DONE = 4
    ERROR = 8


@valueclass(frozen=True, slots=True, kw_only=True)
class TakenSnapshot:
    """One filesystem's in the last run. `error` says what went wrong, which need not mean that there is
    none: a hook's error that is not fatal is one. `hooks` tells of each edge, when there are any.
    `taken`: there is one. `unchanged`: none was taken, as nothing was written since the one before."""

    path: DatasetPath
    state: FilesystemState = FilesystemState.PENDING
    name: str = ""
    started: datetime | None = None
    done: datetime | None = None
    error: str = ""
    hooks: tuple[str, ...] = ()
    hook_failed: bool = False
    taken: bool = False
    unchanged: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class SnapperReport:
    """An immutable picture. `kind` is the config's type; `next_at` when it acts next; `error` what
    concerns all filesystems; `skipped` the times of a cron spec that passed during the last run, as far as they are counted."""

    kind: str
    state: SnapperState = SnapperState.STOPPED
    next_at: datetime | None = None
    error: str = ""
    progress: tuple[TakenSnapshot, ...] = ()
    skipped: int = 0

    @property
    def errors(self) -> tuple[str, ...]:
        """All that went wrong."""
        own = (self.error,) if self.error else ()
        return own + tuple(each.error for each in self.progress if each.error)

    def to_json(self, time: Callable[[datetime | None], str]) -> JsonValue:
        """zrepl's document; `time` writes a time. Of a filesystem `Error` is
        ours, which zrepl only logs, `Taken` and `Unchanged`; of a cron spec `Skipped`."""
        progress: list[JsonValue] = [
            {
                "Path": each.path,
                "State": int(each.state),
                "SnapName": each.name,
                "StartAt": time(each.started),
                "Hooks": "\n".join(each.hooks),
                "HooksHadError": each.hook_failed,
                "DoneAt": time(each.done),
                "Error": each.error,
                "Taken": each.taken,
                "Unchanged": each.unchanged,
            }
            for each in self.progress
        ]
        running = self.state in {SnapperState.PLANNING, SnapperState.SNAPSHOTTING}
        return {
            "Type": self.kind,
            "Periodic": {
                "State": int(self.state),
                "SleepUntil": time(self.next_at),
                "Error": self.error,
                "Progress": progress,
            }
            if self.kind == "periodic"
            else None,
            "Cron": {
                "State": "running" if running else "waiting",
                "WakeupTime": time(self.next_at),
                "Errors": [self.error] if self.error else [],
                "Skipped": self.skipped,
                "Progress": progress,
            }
            if self.kind == "cron"
            else None,
            "Manual": {} if self.kind == "manual" else None,
        }
