"""Which parts of the config language this version acts on.

The whole language is read and checked. What is not built is refused by name when the daemon
starts (`unsupported`); pruning is left asleep with one warning a job (`dormant`), since a daemon that
does not prune is of use already and destroys nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import (
    Config,
    Job,
    PullJob,
    PushJob,
    SinkJob,
    SnapJob,
    SourceJob,
)
from zrepl_trio.config.rules import CommandHook, KeepRegex, KeepRule, ManualSnapshotting
from zrepl_trio.config.transport import SshStdinserverConnect
from zrepl_trio.errors import Problem

__all__ = ["Dormant", "dormant", "unsupported"]

_KEEPS_ALL = frozenset({"", ".*", "^", "$", "^.*", ".*$", "^.*$"})


@dataclass(frozen=True, slots=True)
class Dormant:
    """What of a job does not run in this version; `str()` is the warning, with its place."""

    job: str
    what: tuple[str, ...]
    problem: Problem

    def __str__(self) -> str:
        return str(self.problem)


def unsupported(loaded: LoadedConfig) -> list[Problem]:
    """What this version cannot do, by name: with any of it the daemon does not start."""
    return [loaded.problem(*found) for found in _unbuilt(loaded.config)]


def dormant(loaded: LoadedConfig) -> list[Dormant]:
    """One entry for each job of which something does not run yet; `run --strict` refuses them."""
    found = []
    for index, job in enumerate(loaded.config.jobs):
        asleep = list(_asleep(job))
        if asleep:
            what = tuple(name for name, _ in asleep)
            text = f"job {job.name!r}: " + "; ".join(text for _, text in asleep)
            found.append(Dormant(job.name, what, loaded.problem(("jobs", index), text)))
    return found


def _unbuilt(config: Config) -> Iterator[tuple[Loc, str, str]]:
    for index, job in enumerate(config.jobs):
        yield from _unbuilt_in_job(("jobs", index), job)


def _unbuilt_in_job(loc: Loc, job: Job) -> Iterator[tuple[Loc, str, str]]:
    if isinstance(job, PushJob | SourceJob | SnapJob):
        snapshotting = job.snapshotting
        hooks = () if isinstance(snapshotting, ManualSnapshotting) else snapshotting.hooks
        for number, hook in enumerate(hooks):
            if not isinstance(hook, CommandHook):
                yield (
                    (*loc, "snapshotting", "hooks", number, "type"),
                    f"hooks of type {hook.type} are not built in this version",
                    "command, which may call the database's own client",
                )
    connect = getattr(job, "connect", None)
    if isinstance(connect, SshStdinserverConnect) and connect.transport_open_command:
        yield (
            (*loc, "connect", "transport_open_command"),
            "has no effect, in zrepl either; remove it",
            "ssh_command, for another ssh program",
        )


def _asleep(job: Job) -> Iterator[tuple[str, str]]:
    if _prunes(job):
        text = "pruning does not run in this version; no snapshot is destroyed"
        if isinstance(job, PushJob | SnapJob) and not isinstance(
            job.snapshotting, ManualSnapshotting
        ):
            text += ", also none of those that it takes: thin them out by other means"
        yield "pruning", text


def _prunes(job: Job) -> bool:
    """Whether the job's rules could ever let a snapshot go."""
    match job:
        case PushJob() | PullJob():
            sides = (job.pruning.keep_sender, job.pruning.keep_receiver)
            return not all(map(_keeps_all, sides))
        case SnapJob():
            return not _keeps_all(job.pruning.keep)
        case SinkJob() | SourceJob():
            return False


def _keeps_all(rules: tuple[KeepRule, ...]) -> bool:
    return any(
        isinstance(rule, KeepRegex) and not rule.negate and rule.regex.pattern in _KEEPS_ALL
        for rule in rules
    )
