"""What must be sent so that the receiver has what the sender has: a path, or why there is none.

Two versions hold the same data exactly when their guids are equal; names, and which side made
them, mean nothing. Conflicts are values that carry both sides' lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind, in_order

__all__ = [
    "AlreadyPresent",
    "Conflict",
    "Diverged",
    "IncrementalPath",
    "Mismatch",
    "Modified",
    "NoCommonAncestor",
    "NoSenderSnapshots",
    "Occupied",
    "incremental_path",
    "sorted_versions",
]

Versions: TypeAlias = tuple[FilesystemVersion, ...]


@valueclass(frozen=True, slots=True)
class IncrementalPath:
    """The common ancestor, then every later snapshot of the sender, oldest first."""

    versions: Versions

    @property
    def ancestor(self) -> FilesystemVersion:
        return self.versions[0]


@valueclass(frozen=True, slots=True, kw_only=True)
class AlreadyPresent:
    """The receiver has the sender's newest snapshot: nothing to do."""

    sender: Versions
    receiver: Versions


@valueclass(frozen=True, slots=True, kw_only=True)
class NoSenderSnapshots:
    """The sender has nothing to send from."""

    sender: Versions
    receiver: Versions


@valueclass(frozen=True, slots=True, kw_only=True)
class NoCommonAncestor:
    """No version is on both sides; an empty receiver is one case of it."""

    sender: Versions
    receiver: Versions


@valueclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """The receiver has snapshots newer than the common ancestor that the sender has not."""

    sender: Versions
    receiver: Versions
    ancestor: FilesystemVersion

    @property
    def sender_only(self) -> Versions:
        """The sender's later snapshots."""
        return self._after(self.sender)

    @property
    def receiver_only(self) -> Versions:
        """The receiver's later snapshots."""
        return self._after(self.receiver)

    def _after(self, versions: Versions) -> Versions:
        at = max(i for i, v in enumerate(versions) if v.guid == self.ancestor.guid)
        return tuple(v for v in versions[at + 1 :] if v.is_snapshot)


@valueclass(frozen=True, slots=True, kw_only=True)
class Modified:
    """The receiver's newest snapshot is the common ancestor, but its files were changed since: the
    `written` bytes, None where unknown. No listing of versions tells it."""

    sender: Versions
    receiver: Versions
    ancestor: FilesystemVersion
    written: int | None


@valueclass(frozen=True, slots=True, kw_only=True)
class Occupied:
    """The receiver has a filesystem in that place which is neither a replica, for want of any snapshot,
    nor a placeholder. `written` are the bytes in it, None where unknown. No listing of versions tells it."""

    sender: Versions
    receiver: Versions = ()
    written: int | None = None


Mismatch: TypeAlias = AlreadyPresent | NoSenderSnapshots | NoCommonAncestor | Diverged
Conflict: TypeAlias = Mismatch | Modified | Occupied


def sorted_versions(versions: Iterable[FilesystemVersion]) -> Versions:
    """By createtxg, oldest first; a bookmark before the snapshot of the same transaction."""
    return tuple(in_order(versions))


def incremental_path(
    receiver: Iterable[FilesystemVersion], sender: Iterable[FilesystemVersion]
) -> IncrementalPath | Mismatch:
    """The path from the newest common version to the sender's newest snapshot.

    The receiver's bookmarks are ignored: nothing can be received on top of them.
    """
    theirs = sorted_versions(sender)
    ours = sorted_versions([v for v in receiver if v.kind is VersionKind.SNAPSHOT])
    # of a snapshot and a bookmark with one guid, the snapshot is the later one, and is taken
    newest_at = {version.guid: index for index, version in enumerate(theirs)}
    common = next((v for v in reversed(ours) if v.guid in newest_at), None)
    if common is None:
        if not theirs:
            return NoSenderSnapshots(sender=theirs, receiver=ours)
        return NoCommonAncestor(sender=theirs, receiver=ours)
    start = newest_at[common.guid]
    if common.guid != ours[-1].guid:
        return Diverged(sender=theirs, receiver=ours, ancestor=theirs[start])
    path = [theirs[start]]
    for version in theirs[start + 1 :]:
        if version.kind is VersionKind.SNAPSHOT and version.guid != path[-1].guid:
            path.append(version)
    if len(path) == 1:
        return AlreadyPresent(sender=theirs, receiver=ours)
    return IncrementalPath(tuple(path))
