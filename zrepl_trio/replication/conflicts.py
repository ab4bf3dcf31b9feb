"""Conflicts in words: what is where, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import assert_never

from zrepl_trio.amounts import bytes_text
from zrepl_trio.endpoint.abstractions import parse_cursor
from zrepl_trio.replication.diff import (
    AlreadyPresent,
    Diverged,
    Mismatch,
    NoCommonAncestor,
    NoSenderSnapshots,
    Occupied,
)
from zrepl_trio.zfs.model import FilesystemVersion

__all__ = ["MOST_LISTED", "ConflictKind", "conflict_kind", "conflict_text", "version_lines"]

MOST_LISTED = 8
"""How many versions a text lists of each side, the newest ones; the value has them all."""


class ConflictKind(Enum):
    """What happened, as far as the listings of both sides can tell; the value is its name."""

    RECREATED = "re-created on the sender"
    ROLLED_BACK = "sender rolled back"
    RECEIVER_SNAPSHOTS = "receiver-only snapshots"
    MODIFIED = "receiver modified"
    NO_COMMON = "no common version"
    OCCUPIED = "place is taken"
    NOTHING_TO_SEND = "nothing to send"


def conflict_kind(
    conflict: Mismatch, *, sender_guid: int | None, replica_of: int | None, cursors: bool
) -> ConflictKind | None:
    """The conflict's kind, None when it is none.

    `sender_guid` is the guid of the sender's dataset, `replica_of` the one noted on the replica; None
    where unknown. `cursors`: the job's steps leave cursors. They tell a sender that was rolled back
    from a receiver with snapshots of its own: the newest cursor stays at what arrived last, and
    `zfs rollback` destroys it with all later snapshots and bookmarks.
    """
    recreated = None not in (sender_guid, replica_of) and sender_guid != replica_of
    match conflict:
        case AlreadyPresent():
            return None
        case NoSenderSnapshots():
            return ConflictKind.NOTHING_TO_SEND
        case _ if recreated:
            return ConflictKind.RECREATED
        case NoCommonAncestor():
            return ConflictKind.NO_COMMON
        case Diverged():
            marked = any(not v.is_snapshot and parse_cursor(v.name) for v in conflict.sender)
            rolled_back = cursors and not marked
            return ConflictKind.ROLLED_BACK if rolled_back else ConflictKind.RECEIVER_SNAPSHOTS
        case _:
            assert_never(conflict)


def version_lines(title: str, versions: Sequence[FilesystemVersion]) -> list[str]:
    """A title with the count, then one line a version, newest last."""
    if not versions:
        return [f"  {title}: none"]
    lines = [f"  {title} ({len(versions)}):"]
    if len(versions) > MOST_LISTED:
        lines.append(f"    … {len(versions) - MOST_LISTED} older ones")
    lines += [f"    {v.relative} (guid {v.guid:#x})" for v in versions[-MOST_LISTED:]]
    return lines


_OWN = "the receiver has snapshots of its own since the common"
_DIVERGED: Mapping[ConflictKind | None, str] = {
    None: _OWN,
    ConflictKind.RECEIVER_SNAPSHOTS: _OWN,
    ConflictKind.ROLLED_BACK: "the receiver is ahead, and the sender's cursor is gone: it was "
    "rolled back to",
    ConflictKind.RECREATED: "the sender's dataset was created anew under the same name; in common "
    "is still",
}
_NO_COMMON = (
    "sender and receiver have no snapshot or bookmark in common",
    "the sender's dataset was created anew under the same name, and nothing is in common",
)


def _written(size: int | None) -> str:
    return "" if size is None else f" ({bytes_text(size)} in it)"


_BY_POLICY = "by the job: `conflict_resolution.divergence: "


def conflict_text(
    filesystem: str, conflict: Mismatch | Occupied, kind: ConflictKind | None = None
) -> str:
    """Several lines for status and log, ending with the next action."""
    match conflict:
        case AlreadyPresent():
            return f"{filesystem}: the receiver has the newest snapshot already"
        case NoSenderSnapshots():
            return "\n".join(
                [
                    f"{filesystem}: the sender does not have any versions",
                    *version_lines("receiver's snapshots", conflict.receiver),
                    f"  next: take a snapshot of {filesystem}, or leave it out of `filesystems`",
                ]
            )
        case NoCommonAncestor():
            return "\n".join(
                [
                    f"{filesystem}: {_NO_COMMON[kind is ConflictKind.RECREATED]}",
                    *version_lines("sender's versions", conflict.sender),
                    *version_lines("receiver's snapshots", conflict.receiver),
                    (
                        "  next: rename or destroy the replica on the receiver, so that it is sent "
                        f"anew ({_BY_POLICY}keep_copy`); nothing is ever overwritten"
                    ),
                ]
            )
        case Occupied():
            return "\n".join(
                [
                    (
                        f"{filesystem}: the receiver has a filesystem there without any snapshot, which "
                        f"is not a placeholder{_written(conflict.written)}"
                    ),
                    *version_lines("sender's versions", conflict.sender),
                    (
                        f"  next: rename it on the receiver, which loses nothing ({_BY_POLICY}keep_copy`; "
                        "`rollback` has no snapshot to go back to); or, if nothing in it is wanted, "
                        "destroy it there, or let it be received over: `zfs set zrepl:placeholder=on`"
                    ),
                ]
            )
        case Diverged():
            ancestor = conflict.ancestor
            return "\n".join(
                [
                    f"{filesystem}: {_DIVERGED[kind]} {ancestor.relative}",
                    *version_lines("only on the receiver", conflict.receiver_only),
                    *version_lines("only on the sender", conflict.sender_only),
                    f"  common: {ancestor.relative} (guid {ancestor.guid:#x})",
                    (
                        "  next: on the receiver, roll the replica back to the common snapshot "
                        f"(`zfs rollback -r`, destroys its own ones; {_BY_POLICY}rollback`), or rename "
                        f"it and let it be sent anew ({_BY_POLICY}keep_copy`)"
                    ),
                ]
            )
        case _:
            assert_never(conflict)
