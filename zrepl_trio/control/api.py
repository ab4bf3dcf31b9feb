"""What a client of the control socket sends, and reads of `documents`: models that take what they know and
leave the rest, so that they read zrepl's too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from zrepl_trio.control.documents import UNSET
from zrepl_trio.control.server import BadRequest

__all__ = [
    "AttemptModel",
    "CommandModel",
    "DatasetModel",
    "FilesystemModel",
    "InvocationModel",
    "JobModel",
    "PrunedModel",
    "PruningModel",
    "ReplicationModel",
    "SignalRequest",
    "SnapperModel",
    "Status",
    "StuckModel",
    "TakenModel",
    "Version",
    "parse_signal",
]


def _unset_is_none(value: object) -> object:
    return None if value == UNSET else value


Time = Annotated[datetime | None, BeforeValidator(_unset_is_none)]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_pascal, populate_by_name=True, frozen=True, extra="ignore"
    )


class SignalRequest(_Model):
    """Body of `/signal`. For a wakeup, ours: `resolve` says what becomes of replicas that do not fit, by
    filesystem, `destroy_foreign` that snapshots which wait for somebody's word may go."""

    name: str
    op: str
    resolve: Mapping[str, str] = Field(default_factory=dict)
    destroy_foreign: bool = False


class Version(_Model):
    """Answer of `/version`."""

    version: str
    runtime: str = Field(default="", alias="RuntimeGo")


class ErrorModel(_Model):
    """An error's text and time."""

    err: str
    time: Time = None


class StepModel(_Model):
    """One step; sizes in bytes, 0 expected = unknown."""

    from_: str = Field(default="", alias="From")
    to: str
    resumed: bool = False
    bytes_expected: int = 0
    bytes_replicated: int = 0


class _StepWrapper(_Model):
    info: StepModel


class _Name(_Model):
    name: str


class FilesystemModel(_Model):
    """One filesystem of an attempt."""

    info: _Name
    state: str
    blocked_on: str = "nothing"
    plan_error: ErrorModel | None = None
    step_error: ErrorModel | None = None
    current_step: int = 0
    wrapped_steps: tuple[_StepWrapper, ...] = Field(default=(), alias="Steps")
    note: str = ""

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def steps(self) -> tuple[StepModel, ...]:
        return tuple(step.info for step in self.wrapped_steps)

    @property
    def error(self) -> str:
        found = self.plan_error or self.step_error
        return found.err if found else ""

    @property
    def replicated(self) -> int:
        return sum(step.bytes_replicated for step in self.steps)

    @property
    def expected(self) -> int:
        return sum(max(step.bytes_expected, step.bytes_replicated) for step in self.steps)


class AttemptModel(_Model):
    """One attempt of a run."""

    state: str
    start_at: Time = None
    finish_at: Time = None
    plan_error: ErrorModel | None = None
    filesystems: tuple[FilesystemModel, ...] = ()


class ReplicationModel(_Model):
    """A run of replication."""

    start_at: Time = None
    finish_at: Time = None
    wait_reconnect_since: Time = None
    wait_reconnect_until: Time = None
    wait_reconnect_error: ErrorModel | None = None
    attempts: tuple[AttemptModel, ...] = ()


class InvocationModel(_Model):
    """One run of an active job; `outcome` is empty while it runs."""

    number: int
    start_at: Time = None
    finish_at: Time = None
    outcome: str = ""
    error: str = ""


class DatasetModel(_Model):
    """How fresh a dataset's copy is: times of snapshots in seconds since the epoch, None: none.

    `peer` is the client it is for, empty in an active job.
    """

    name: str
    peer: str = ""
    newest_snapshot: int | None = None
    replicated_snapshot: int | None = None


class TakenModel(_Model):
    """One filesystem in the last run of a snapshotter."""

    path: str
    snap_name: str = ""
    done_at: Time = None
    error: str = ""
    taken: bool = False
    unchanged: bool = False


class _Periodic(_Model):
    sleep_until: Time = None
    error: str = ""
    progress: tuple[TakenModel, ...] = ()


class _Cron(_Model):
    wakeup_time: Time = None
    errors: tuple[str, ...] = ()
    skipped: int = 0
    progress: tuple[TakenModel, ...] = ()


class SnapperModel(_Model):
    """A job's snapshotter."""

    type: str = "manual"
    periodic: _Periodic | None = None
    cron: _Cron | None = None

    @property
    def next_at(self) -> datetime | None:
        if self.periodic is not None:
            return self.periodic.sleep_until
        return self.cron.wakeup_time if self.cron is not None else None

    @property
    def taken(self) -> tuple[TakenModel, ...]:
        """The filesystems of the last run."""
        found = self.periodic or self.cron
        return found.progress if found is not None else ()

    @property
    def skipped(self) -> int:
        """How many times of a cron spec passed during the last run."""
        return self.cron.skipped if self.cron is not None else 0

    @property
    def errors(self) -> tuple[str, ...]:
        """What went wrong in the last run."""
        own = self.cron.errors if self.cron is not None else ()
        if self.periodic is not None and self.periodic.error:
            own = (self.periodic.error,)
        return own + tuple(each.error for each in self.taken if each.error)


class LeftAloneModel(_Model):
    """A snapshot that the rules let go and that is still there."""

    name: str
    why: str


class PrunedModel(_Model):
    """One filesystem of a pruning; counts are of snapshots."""

    filesystem: str
    skip_reason: str = ""
    last_error: str = ""
    snapshots: int = 0
    going: int = 0
    destroyed: int = 0
    foreign: int = 0
    left_alone: tuple[LeftAloneModel, ...] = ()


class PruningModel(_Model):
    """One side's pruning."""

    state: str
    error: str = ""
    side: str = ""
    start_at: Time = None
    finish_at: Time = None
    pending: tuple[PrunedModel, ...] = ()
    completed: tuple[PrunedModel, ...] = ()


class JobModel(_Model):
    """Either type's payload; keys that the other type has keep their defaults."""

    phase: str = ""
    error: str = ""
    failures: int = 0
    restart_at: Time = None
    replication: ReplicationModel | None = None
    invocation: InvocationModel | None = None
    last_run: InvocationModel | None = None
    datasets: tuple[DatasetModel, ...] = ()
    next_wakeup: Time = None
    connections: int = 0
    pruning_sender: PruningModel | None = None
    pruning_receiver: PruningModel | None = None
    pruning: PruningModel | None = None
    snapshotting: SnapperModel | None = None
    snapper: SnapperModel | None = None

    @property
    def snapshots(self) -> SnapperModel | None:
        """Its snapshotter, under either of zrepl's names."""
        return self.snapshotting or self.snapper

    @property
    def prunings(self) -> tuple[PruningModel, ...]:
        """The last of each side that there was one of."""
        sides = (self.pruning_sender, self.pruning_receiver, self.pruning)
        return tuple(each for each in sides if each is not None)


class StuckModel(_Model):
    """A child that ignores SIGKILL."""

    pid: int
    args: tuple[str, ...]
    dataset: str = ""


class CommandModel(_Model):
    """A command that runs now."""

    path: str
    args: tuple[str, ...] = ()
    started_at: Time = None


class _Commands(_Model):
    active: tuple[CommandModel, ...] = ()


class _Global(_Model):
    commands: _Commands = Field(default_factory=_Commands, alias="ZFSCmds")
    version: str = ""
    start_at: Time = None
    stuck_children: tuple[StuckModel, ...] = ()


class Status(_Model):
    """Answer of `/status`, jobs in config order."""

    raw_jobs: dict[str, dict[str, object]] = Field(default_factory=dict, alias="Jobs")
    global_: _Global = Field(default_factory=_Global, alias="Global")

    def type_of(self, name: str) -> str:
        """`pull`, `source` or another of zrepl's job types."""
        return str(self.raw_jobs[name].get("type", ""))

    def job(self, name: str) -> JobModel:
        """That job's payload."""
        return JobModel.model_validate(self.raw_jobs[name].get(self.type_of(name)) or {})


def parse_signal(body: bytes) -> SignalRequest:
    """The request in a `/signal` body; BadRequest when it isn't one."""
    try:
        return SignalRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{where}: {first['msg']}" if where else first["msg"]) from None
