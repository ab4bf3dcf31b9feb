"""The five kinds of job, chosen by `type`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zrepl_trio.config.base import FromDefaults, Section
from zrepl_trio.config.fields import Filesystems, Flag, JobName, PullInterval, RootFilesystem
from zrepl_trio.config.keep import FloorPruning, Pruning, SnapPruning
from zrepl_trio.config.rules import (
    ConflictResolution,
    RecvOptions,
    Replication,
    SendOptions,
    Snapshotting,
)
from zrepl_trio.config.transport import Connect, Serve

__all__ = ["Job", "PullJob", "PushJob", "SinkJob", "SnapJob", "SourceJob"]

_Send = Annotated[SendOptions, FromDefaults]
_Recv = Annotated[RecvOptions, FromDefaults]


class _Named(Section):
    name: JobName
    """Unique; part of the names of the job's bookmarks and holds, so it should never change."""


class _Active(_Named):
    connect: Connect
    """How to reach the other side."""
    pruning: Pruning
    """What to keep on either side."""
    replication: Annotated[Replication, FromDefaults] = Replication()
    """How replication runs."""
    conflict_resolution: Annotated[ConflictResolution, FromDefaults] = ConflictResolution()
    """What to do where the two sides do not fit."""


class PushJob(_Active):
    """Take snapshots and send them to a sink."""

    type: Literal["push"]
    filesystems: Filesystems
    """What to replicate."""
    snapshotting: Snapshotting
    """When and how to take snapshots."""
    send: _Send = SendOptions()
    """How to send."""


class PullJob(_Active):
    """Fetch snapshots from a source."""

    type: Literal["pull"]
    root_fs: RootFilesystem
    """Received filesystems are placed below it."""
    interval: PullInterval
    """Time between pulls, or `manual`."""
    recv: _Recv = RecvOptions()
    """How to receive."""
    run_at_start: Flag = False
    """Pull also when the daemon starts, as zrepl 0.0.x did. A key of zrepl-trio."""


class SinkJob(_Named):
    """Receive what push jobs send."""

    type: Literal["sink"]
    serve: Serve
    """Where push jobs connect."""
    root_fs: RootFilesystem
    """A client's filesystems are placed below `root_fs/IDENTITY`."""
    recv: _Recv = RecvOptions()
    """How to receive."""
    pruning: FloorPruning | None = None
    """What push jobs cannot have destroyed here. A key of zrepl-trio."""


class SourceJob(_Named):
    """Take snapshots and offer them to pull jobs."""

    type: Literal["source"]
    serve: Serve
    """Where pull jobs connect."""
    filesystems: Filesystems
    """What to offer."""
    snapshotting: Snapshotting
    """When and how to take snapshots."""
    send: _Send = SendOptions()
    """How to send."""
    pruning: FloorPruning | None = None
    """What pull jobs cannot have destroyed here. A key of zrepl-trio."""


class SnapJob(_Named):
    """Take and prune snapshots, without replication."""

    type: Literal["snap"]
    filesystems: Filesystems
    """What to snapshot."""
    snapshotting: Snapshotting
    """When and how to take snapshots."""
    pruning: SnapPruning
    """What to keep."""


Job = Annotated[PushJob | PullJob | SinkJob | SourceJob | SnapJob, Field(discriminator="type")]
