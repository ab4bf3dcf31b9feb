"""What every job is to its supervisor, the control socket and `status`."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime
from enum import Enum
from typing import Protocol

import trio

from zrepl_trio.errors import ZreplError
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.freshness import DatasetFreshness
from zrepl_trio.replication.policy import NO_OVERRIDES, Overrides
from zrepl_trio.replication.report import Report
from zrepl_trio.snapshots.report import SnapperReport
from zrepl_trio.values import valueclass

__all__ = [
    "NO_WISHES",
    "Invocation",
    "Job",
    "JobStatus",
    "JobType",
    "Outcome",
    "Phase",
    "SignalRefused",
    "Wishes",
]


class JobType(Enum):
    """zrepl's job types that are built."""

    PUSH = "push"
    PULL = "pull"
    SINK = "sink"
    SOURCE = "source"
    SNAP = "snap"


class Phase(Enum):
    """What a job does now."""

    STARTING = "starting"
    WAITING = "waiting"
    RUNNING = "running"
    SERVING = "serving"
    FAILED = "failed"
    STOPPED = "stopped"


class Outcome(Enum):
    """How an invocation of an active job ended."""

    DONE = "done"
    FILESYSTEM_ERRORS = "filesystem-errors"
    CONNECT_FAILED = "connect-failed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@valueclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody wants of one run, whatever the job says: `divergence` of replicas that do not fit,
    some perhaps of another job (`divergence_elsewhere`) that is run with the same wishes, and whether
    foreign snapshots that wait for a word may go."""

    divergence: Overrides = field(default_factory=dict)
    divergence_elsewhere: bool = False
    destroy_foreign: bool = False


NO_WISHES = Wishes(divergence=NO_OVERRIDES)


@valueclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One run of an active job, counted from 1; `outcome` None while it runs."""

    number: int
    started: datetime
    finished: datetime | None = None
    outcome: Outcome | None = None
    error: str = ""


@valueclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """An immutable picture of a job.

    `error` is why it failed or what its last invocation said; `restart_at` when a failed job is
    tried again; `last_run` the last invocation that has ended, whatever goes on now;
    `pruning` the last of each side; `connections` how many clients a passive job serves now;
    `freshness` what is known of each dataset's copy;
    `snapshots` what its snapshotter does, None for a job that has none.
    """

    name: str
    type: JobType
    phase: Phase
    error: str = ""
    failures: int = 0
    restart_at: datetime | None = None
    next_wakeup: datetime | None = None
    invocation: Invocation | None = None
    last_run: Invocation | None = None
    replication: Report | None = None
    pruning: tuple[PruneReport, ...] = ()
    connections: int = 0
    freshness: tuple[DatasetFreshness, ...] = ()
    snapshots: SnapperReport | None = None


class SignalRefused(ZreplError):
    """The job cannot take this signal now; the text is zrepl's."""


class Job(Protocol):
    """One configured job; the supervisor owns its task."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> JobType: ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled. May be called again after it raised. `started` is called when
        the job is ready for what it is there for."""

    def status(self) -> JobStatus:
        """A picture of the present moment; cheap, runs nothing."""

    def wakeup(self, wishes: Wishes = NO_WISHES) -> None:
        """Start an invocation now, by these wishes; SignalRefused when one runs, or for a passive job."""

    def reset(self) -> None:
        """Cancel the running invocation; SignalRefused when none runs."""
