"""What can be wrong between sections that are each right."""

from __future__ import annotations

import os
from collections.abc import Iterator

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.model import Config, PullJob, PushJob, SinkJob, SnapJob, SourceJob
from zrepl_trio.config.rules import ManualSnapshotting
from zrepl_trio.config.transport import LocalConnect, LocalServe, StdinserverServe
from zrepl_trio.zfs.names import MAX_NAME_BYTES

__all__ = ["MAX_SOCKET_PATH", "cross_problems"]

MAX_SOCKET_PATH = 107
"""`sun_path` of Linux less its NUL (unix(7))."""


def cross_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    """Where, and what, for each clash between sections."""
    sockpath = config.global_.control.sockpath
    if (size := len(os.fsencode(sockpath))) > MAX_SOCKET_PATH:
        yield ("global", "control", "sockpath"), _too_long(sockpath, size)
    yield from _identity_problems(config)
    yield from _local_problems(config)
    yield from _target_problems(config)
    yield from _name_problems(config)


def _identity_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    sockdir = config.global_.serve.stdinserver.sockdir
    served: dict[str, str] = {}
    for index, job in enumerate(config.jobs):
        serve = getattr(job, "serve", None)
        if not isinstance(serve, StdinserverServe):
            continue
        for position, identity in enumerate(serve.client_identities):
            loc = ("jobs", index, "serve", "client_identities", position)
            if identity in served:
                yield loc, f"{identity!r} is served by job {served[identity]!r} already"
            served.setdefault(identity, job.name)
            path = f"{sockdir}/{identity}"
            if (size := len(os.fsencode(path))) > MAX_SOCKET_PATH:
                yield loc, _too_long(path, size)


def _local_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    ends = (getattr(job, "serve", None) for job in config.jobs)
    served = {end.listener_name for end in ends if isinstance(end, LocalServe)}
    for index, job in enumerate(config.jobs):
        connect = getattr(job, "connect", None)
        if isinstance(connect, LocalConnect) and connect.listener_name not in served:
            yield (
                ("jobs", index, "connect", "listener_name"),
                f"no job of this config serves the local listener {connect.listener_name!r}",
            )


def _target_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    for index, job in enumerate(config.jobs):
        if not isinstance(job, PullJob | SinkJob):
            continue
        for pattern, target in job.recv.target.entries:
            # room for at least `/x` of the sender's or an identity's name, and a snapshot's
            if target and len(job.root_fs) + 1 + len(target) + 4 > MAX_NAME_BYTES:
                message = f"{job.root_fs}/{target} leaves no room for names below it"
                yield ("jobs", index, "recv", "target", pattern), message


def _name_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    for index, job in enumerate(config.jobs):
        if not isinstance(job, SourceJob | PushJob | SnapJob):
            continue
        if isinstance(job.snapshotting, ManualSnapshotting):
            continue
        name = job.snapshotting.naming.longest
        named = {pattern.removesuffix("<") for pattern, _ in job.filesystems.entries}
        longest = max(filter(job.filesystems.admits, named), key=len, default="")
        if (size := len(f"{longest}@{name}")) > MAX_NAME_BYTES:
            message = f"snapshots of {longest} would have names of {size} bytes, and zfs takes {MAX_NAME_BYTES}"
            yield ("jobs", index, "snapshotting", "prefix"), message


def _too_long(path: str, size: int) -> str:
    return f"the socket's path {path} would have {size} bytes, and the limit is {MAX_SOCKET_PATH}"
