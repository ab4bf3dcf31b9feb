"""Which parts of the config language this version acts on.

The whole language is read and checked. What is not built, or needs a library that is not installed, is
refused by name when the daemon starts.
"""

from __future__ import annotations

from collections.abc import Iterator

from zrepl_trio.config.clients import missing_client
from zrepl_trio.config.explain import Loc
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import (
    Config,
    Job,
    PushJob,
    SnapJob,
    SourceJob,
)
from zrepl_trio.config.rules import ManualSnapshotting
from zrepl_trio.config.transport import LocalServe, SshStdinserverConnect
from zrepl_trio.errors import Problem

__all__ = ["unsupported", "without_effect"]


def unsupported(loaded: LoadedConfig) -> list[Problem]:
    """What this version cannot do, by name: with any of it the daemon does not start."""
    return [loaded.problem(*found) for found in _unbuilt(loaded.config)]


def without_effect(loaded: LoadedConfig) -> list[Problem]:
    """What is read and means nothing when the daemon runs, which it tells as it starts."""
    return [loaded.problem(*found) for found in _idle(loaded.config)]


def _idle(config: Config) -> Iterator[tuple[Loc, str, str]]:
    served: dict[str, str] = {}
    for index, job in enumerate(config.jobs):
        connect, serve = getattr(job, "connect", None), getattr(job, "serve", None)
        if isinstance(connect, SshStdinserverConnect) and connect.transport_open_command:
            yield (
                ("jobs", index, "connect", "transport_open_command"),
                "has no effect, in zrepl either; remove it",
                "ssh_command, for another ssh program",
            )
        if isinstance(serve, LocalServe):
            first = served.setdefault(serve.listener_name, job.name)
            if first != job.name:
                yield (
                    ("jobs", index, "serve", "listener_name"),
                    _unreached(serve.listener_name, first, job.name),
                    "",
                )


def _unreached(listener: str, first: str, job: str) -> str:
    return (
        f"{listener!r} is served by job {first!r}, which gets all that is sent there, and job {job!r} "
        "nothing (in zrepl chance decides each time): give this job a `listener_name` of its own, and "
        "name that in `connect` of what is for it"
    )


def _unbuilt(config: Config) -> Iterator[tuple[Loc, str, str]]:
    for index, job in enumerate(config.jobs):
        yield from _unbuilt_in_job(("jobs", index), job)


def _unbuilt_in_job(loc: Loc, job: Job) -> Iterator[tuple[Loc, str, str]]:
    if isinstance(job, PushJob | SourceJob | SnapJob):
        snapshotting = job.snapshotting
        hooks = () if isinstance(snapshotting, ManualSnapshotting) else snapshotting.hooks
        for number, hook in enumerate(hooks):
            if missing := missing_client(hook):
                yield (*loc, "snapshotting", "hooks", number, "type"), missing, ""
