"""An immutable picture of one side's pruning, in the shape that zrepl's status shows (behaviour
reference 6.4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum

from zrepl_trio.endpoint.refusals import FLOOR
from zrepl_trio.pruning.plan import Fate, FilesystemPrune, PruneSide
from zrepl_trio.replication.report import JsonValue
from zrepl_trio.rpc.creation import render
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["FilesystemPruneReport", "LeftAlone", "PruneReport", "PruneState"]


class PruneState(Enum):
    """zrepl's words."""

    PLAN = "Plan"
    PLAN_ERR = "PlanErr"
    EXEC = "Exec"
    EXEC_ERR = "ExecErr"
    DONE = "Done"


@valueclass(frozen=True, slots=True)
class LeftAlone:
    """A snapshot that the rules let go and that is still there; `why` is for a person."""

    name: str
    why: str

    @property
    def by_floor(self) -> bool:
        """Whether it is a floor of the other side that keeps it."""
        return FLOOR in self.why


@valueclass(frozen=True, slots=True, kw_only=True)
class FilesystemPruneReport:
    """One filesystem. `snapshots` counts those that there were; `destroyed` how many are gone by now.

    `left_alone` was let go by the rules and stays for a reason; `foreign` of them wait for somebody's
    word. `plan` is what was made out, kept only where something goes.
    """

    path: DatasetPath
    snapshots: int = 0
    going: int = 0
    destroyed: int = 0
    skipped: str = ""
    error: str = ""
    left_alone: tuple[LeftAlone, ...] = ()
    foreign: int = 0
    plan: FilesystemPrune | None = None

    @classmethod
    def of(
        cls, plan: FilesystemPrune, left_alone: tuple[LeftAlone, ...] = ()
    ) -> FilesystemPruneReport:
        """Before anything is destroyed."""
        going = len(plan.going)
        return cls(
            path=plan.path,
            snapshots=len(plan.judgements),
            going=going,
            skipped=plan.skipped,
            error=plan.error,
            left_alone=left_alone,
            foreign=len(plan.having(Fate.FOREIGN)),
            plan=plan if going else None,
        )

    def to_json(self) -> JsonValue:
        judgements = self.plan.judgements if self.plan is not None else ()
        listed: list[tuple[Fate, JsonValue]] = [
            (
                each.fate,
                {
                    "Name": each.snapshot.name,
                    "Replicated": each.replicated,
                    "Date": render(each.snapshot.creation),
                },
            )
            for each in judgements
        ]
        left: list[JsonValue] = [{"Name": each.name, "Why": each.why} for each in self.left_alone]
        return {
            "Filesystem": self.path,
            "SnapshotList": [shown for _, shown in listed],
            "DestroyList": [shown for fate, shown in listed if fate is Fate.GOES],
            "SkipReason": self.skipped,
            "LastError": self.error,
            "Snapshots": self.snapshots,
            "Going": self.going,
            "Destroyed": self.destroyed,
            "LeftAlone": left,
            "Foreign": self.foreign,
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """One side in one run; `error` is what concerns all of it. `pending` are still to be done."""

    side: PruneSide
    state: PruneState = PruneState.PLAN
    started: datetime
    finished: datetime | None = None
    error: str = ""
    pending: tuple[FilesystemPruneReport, ...] = ()
    completed: tuple[FilesystemPruneReport, ...] = ()

    @property
    def was_planned(self) -> bool:
        """Whether it came as far as knowing each filesystem's snapshots."""
        return bool(self.pending or self.completed) or self.state is PruneState.DONE

    @property
    def destroyed(self) -> int:
        """Snapshots that are gone by now."""
        return sum(each.destroyed for each in self.completed)

    @property
    def foreign(self) -> int:
        """Snapshots that wait for somebody's word."""
        return sum(each.foreign for each in (*self.pending, *self.completed))

    @property
    def left_alone(self) -> list[tuple[DatasetPath, LeftAlone]]:
        """What the rules let go and stays for a reason, of all filesystems that are done."""
        return [(each.path, one) for each in self.completed for one in each.left_alone]

    @property
    def errors(self) -> tuple[str, ...]:
        """All that went wrong, for a person."""
        own = (self.error,) if self.error else ()
        return own + tuple(each.error for each in self.completed if each.error)

    def to_json(self, time: Callable[[datetime | None], str]) -> JsonValue:
        """zrepl's document, with a few keys more; `time` writes a time."""
        return {
            "State": self.state.value,
            "Error": self.error,
            "Pending": [each.to_json() for each in self.pending],
            "Completed": [each.to_json() for each in self.completed],
            "Side": self.side.value,
            "StartAt": time(self.started),
            "FinishAt": time(self.finished),
        }
