"""What of a config zrepl-trio does otherwise than zrepl 0.7: of its jobs only what applies to them.

docs/config.md has the whole list, with what both refuse or read alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.hooks import CommandHook, PostgresCheckpoint
from zrepl_trio.config.keep import SnapPruning, keeps_all
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import Job, PullJob, PushJob, SinkJob, SnapJob, SourceJob
from zrepl_trio.config.notes import Note
from zrepl_trio.config.rules import ManualSnapshotting, Snapshotting

__all__ = ["differences"]

_UNMOUNTED = (
    "what is received is not mounted (`zfs recv -u`), replicas that are mounted already stay so; "
    "`recv: {unmounted: false}` gives zrepl's way"
)
_PROPERTIES = (
    "of a stream with properties those that act on this host (mountpoint, exec, setuid, …) are "
    "left out; name one in `recv.properties.accept` to take it"
)
_SENT = (
    "the properties are sent as by zrepl, but a zrepl-trio on the other side leaves out those that "
    "act on its host unless its `recv.properties.accept` names them"
)
_GIVEN_UP = (
    "partly received state that cannot be resumed is dropped and sent anew, where zrepl fails "
    "until it is dropped by hand (`zfs recv -A`)"
)
_FOREIGN = (
    "snapshots that the job did not take and no rule names stay until somebody confirms that they go "
    "(`signal wakeup --destroy-foreign`), where zrepl destroys them; `foreign: destroy` gives zrepl's way"
)
_POST_EDGES = "its post edge runs also after a fatal error of a later hook, where zrepl leaves it out, and a lock on"
_TIMEOUT = "its `timeout`, 30s unless it is given, is kept, connecting included; zrepl reads it and waits without end"


def differences(loaded: LoadedConfig) -> list[Note]:
    """One note each, in the order of the jobs."""
    return [
        loaded.note(("jobs", index, *loc), text)
        for index, job in enumerate(loaded.config.jobs)
        for loc, text in _of(job)
    ]


def _of(job: Job) -> Iterator[tuple[Loc, str]]:
    if isinstance(job, PullJob | SinkJob):
        if job.recv.unmounted:
            yield ("recv",), _UNMOUNTED
        yield ("recv",), _PROPERTIES
    if isinstance(job, PushJob | SourceJob) and (
        job.send.send_properties or job.send.backup_properties
    ):
        yield ("send",), _SENT
    if isinstance(job, PushJob | PullJob):
        yield ("replication",), _GIVEN_UP
    if isinstance(job, PushJob | PullJob | SnapJob):
        pruning = job.pruning
        lists = (
            (pruning.keep,)
            if isinstance(pruning, SnapPruning)
            else (pruning.keep_sender, pruning.keep_receiver)
        )
        if pruning.foreign == "ask" and not all(map(keeps_all, lists)):
            yield ("pruning",), _FOREIGN
    if isinstance(job, PushJob | SourceJob | SnapJob):
        yield from _of_hooks(job.snapshotting)


def _of_hooks(snapshotting: Snapshotting) -> Iterator[tuple[Loc, str]]:
    hooks = () if isinstance(snapshotting, ManualSnapshotting) else snapshotting.hooks
    for index, hook in enumerate(hooks):
        loc = ("snapshotting", "hooks", index)
        if not isinstance(hook, PostgresCheckpoint) and any(
            h.err_is_fatal for h in hooks[index + 1 :]
        ):
            yield loc, _POST_EDGES
        if not isinstance(hook, CommandHook):
            yield loc, _TIMEOUT
