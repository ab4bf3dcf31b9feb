"""`Zfs`: all that the rest of the code may ask of ZFS.

Held by the `zfs` and `zpool` commands (`zfs.cli`), by an in-memory model (`zfs.memory`), and,
through the commands, by the emulated executable. One conformance suite runs against all of
them; real OpenZFS decides.

Every call raises a `ZfsError` (or the subclass that says more) and names the dataset. Names are
already checked values. Calls that say *idempotent* succeed when the wanted state is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from zrepl_trio.zfs.filter import Extent
from zrepl_trio.zfs.model import (
    Dataset,
    DatasetBrief,
    DestroyResult,
    Features,
    FilesystemVersion,
    Hold,
    Property,
    ReceiveArgs,
    ResumeToken,
    SendArgs,
)
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Zfs", "ZfsReceive", "ZfsSend"]


class ZfsSend(Protocol):
    """A running `zfs send`; belongs to the `async with` that opened it."""

    @property
    def reader(self) -> trio.abc.ReceiveStream:
        """Its stdout. Has `fileno()` when a kernel pipe stands behind it."""

    async def finish(self) -> None:
        """Wait for the exit after EOF; ZfsError when it failed, so that a failed send is never
        taken for a clean end."""


class ZfsReceive(Protocol):
    """A running `zfs recv`; belongs to the `async with` that opened it."""

    @property
    def writer(self) -> trio.abc.SendStream:
        """Its stdin. Has `fileno()` when a kernel pipe stands behind it."""

    async def finish(self) -> None:
        """Close stdin and wait for the exit; ZfsError says how it failed."""


class Zfs(Protocol):
    """One host's ZFS."""

    async def features(self) -> Features:
        """What this zfs can do; asked once a process."""

    async def datasets(self, roots: Sequence[DatasetPath] = ()) -> list[Dataset]:
        """Filesystems and volumes at and below each root, parents first; no roots: of all
        pools. One zfs process a root. A missing root: DatasetNotFound."""

    async def datasets_in(self, extent: Extent) -> list[DatasetBrief]:
        """Filesystems and volumes there, in few zfs processes: mostly one, whatever the number of
        roots. One that does not exist is left out."""

    async def dataset(self, path: DatasetPath) -> Dataset | None:
        """That dataset alone, None when it does not exist."""

    async def versions(self, path: DatasetPath) -> list[FilesystemVersion]:
        """All its snapshots and bookmarks by createtxg, bookmark before snapshot on ties."""

    async def versions_below(
        self, roots: Sequence[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        """The same for every dataset at and below the roots; one zfs process a root.
        Datasets without versions are absent."""

    async def properties(self, path: DatasetPath, names: Sequence[str]) -> dict[str, Property]:
        """Those properties of one dataset; unset user properties have value `-`."""

    async def properties_of(
        self, paths: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, Property]]:
        """The same of several datasets and snapshots, in one command."""

    async def set_properties(self, path: DatasetPath, values: Mapping[str, str]) -> None:
        """Set them locally, in one command."""

    async def create_filesystem(self, path: DatasetPath, properties: Mapping[str, str]) -> None:
        """Make it (parents must exist); DatasetExists when it is there."""

    async def rename(self, old: DatasetPath, new: DatasetPath) -> None:
        """Rename a filesystem or volume with all that is its own: datasets below, snapshots,
        bookmarks, local properties, holds, partly received state. What is mounted is mounted again
        at its new place. The new parent must exist, within the same pool.

        DatasetExists when `new` is there; DatasetNotFound when `old` or the new parent is not;
        a ZfsError with zfs's words otherwise. A name renamed to itself stays."""

    async def destroy_filesystem(self, path: DatasetPath) -> None:
        """Remove it; a ZfsError, and nothing else, when it has snapshots or children."""

    async def snapshot(self, path: DatasetPath, name: str) -> None:
        """Take `path@name`; DatasetExists when it is there."""

    @property
    def argument_bytes(self) -> int:
        """How many bytes of names the system takes in one command, each name with its end and its
        pointer (`zfs.batches.POINTER_BYTES`)."""

    async def snapshot_all(self, paths: Sequence[DatasetPath], name: str) -> None:
        """Take `path@name` of several, all of one pool, at one moment by one command: all or none.
        Of which zfs refused to, the ZfsError's `stderr` tells (`zfs.batches.snapshot_refusals`)."""

    async def bookmark(self, path: DatasetPath, snapshot: FilesystemVersion, name: str) -> None:
        """Make `path#name` of a snapshot. Idempotent: the bookmark exists with the same guid;
        with another guid: DatasetExists."""

    async def destroy_bookmark(self, path: DatasetPath, name: str) -> None:
        """Remove `path#name`. Idempotent."""

    async def bookmarks_in_bulk(self) -> bool:
        """Whether `change_bookmarks` does those of many datasets at once; if not, it pays to wait for none."""

    async def change_bookmarks(
        self,
        make: Mapping[DatasetPath, Mapping[str, FilesystemVersion]],
        destroy: Mapping[DatasetPath, Collection[str]],
    ) -> None:
        """`bookmark`, by its name and of which snapshot, for several datasets, and once all are made,
        `destroy_bookmark`. Idempotent as these are. DatasetExists where another snapshot has the name by now, with no
        bookmark of it left. After an error, some may be done."""

    async def destroy_snapshots(
        self, path: DatasetPath, names: Sequence[str]
    ) -> list[DestroyResult]:
        """Destroy them, batched; one result a name, in order; a held one reports its reason.
        A missing one counts as destroyed, but for those of a missing dataset, which may have another name."""

    async def destroy_size(self, path: DatasetPath, names: Sequence[str]) -> int:
        """Bytes that it would free to destroy them all, by a dry run: what only they have. 0 when none
        is there (any more)."""

    async def holds(self, path: DatasetPath, snapshots: Collection[str]) -> list[Hold]:
        """Holds on those snapshots, one command for all."""

    async def holds_of(
        self, snapshots: Mapping[DatasetPath, Collection[str]]
    ) -> dict[DatasetPath, list[Hold]]:
        """The same of several datasets, one command for all; one without holds is absent."""

    async def hold(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        """Put `tag` on each. Idempotent."""

    async def release(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        """Take `tag` off each. Idempotent: a missing tag or snapshot is fine."""

    async def hold_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        """`hold` for several datasets, one command for all. After an error, some may be done."""

    async def release_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        """`release` likewise."""

    async def rollback(
        self, path: DatasetPath, snapshot: str, *, destroy_newer: bool = True
    ) -> None:
        """`zfs rollback`: what was written since is lost. Newer snapshots and bookmarks are destroyed by
        `-r`; without `destroy_newer` zfs refuses where there are any."""

    async def abort_receive(self, path: DatasetPath) -> None:
        """Drop partly received state (`zfs recv -A`). Idempotent."""

    async def send_size(self, args: SendArgs) -> int | None:
        """Bytes that the send will produce, by a dry run; None when zfs cannot say."""

    async def packed_sizes(self, args: SendArgs) -> dict[str, int]:
        """Snapshot to the bytes that a packed send will take for it, by one dry run. What zfs
        cannot say is absent."""

    async def decode_token(self, token: str) -> ResumeToken:
        """What a resume token says; BadResumeToken when it is corrupt."""

    def open_send(self, args: SendArgs) -> AbstractAsyncContextManager[ZfsSend]:
        """Start `zfs send`. Leaving the block ends the child: it is killed if still running."""

    def open_receive(self, args: ReceiveArgs) -> AbstractAsyncContextManager[ZfsReceive]:
        """Start `zfs recv`. Leaving the block without `finish` closes its stdin first and gives
        it time to save resumable state, then kills it."""
