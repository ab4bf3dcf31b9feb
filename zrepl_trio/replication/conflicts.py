"""Conflicts in words: what is where, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from zrepl_trio.replication.diff import (
    AlreadyPresent,
    Conflict,
    Diverged,
    NoCommonAncestor,
    NoSenderSnapshots,
)
from zrepl_trio.zfs.model import FilesystemVersion

__all__ = ["MOST_LISTED", "conflict_text", "version_lines"]

MOST_LISTED = 8
"""How many versions a text lists of each side, the newest ones; the value has them all."""


def version_lines(title: str, versions: Sequence[FilesystemVersion]) -> list[str]:
    """A title with the count, then one line a version, newest last."""
    if not versions:
        return [f"  {title}: none"]
    lines = [f"  {title} ({len(versions)}):"]
    if len(versions) > MOST_LISTED:
        lines.append(f"    … {len(versions) - MOST_LISTED} older ones")
    lines += [f"    {v.relative} (guid {v.guid:#x})" for v in versions[-MOST_LISTED:]]
    return lines


def conflict_text(filesystem: str, conflict: Conflict) -> str:
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
                    f"{filesystem}: sender and receiver have no snapshot or bookmark in common",
                    *version_lines("sender's versions", conflict.sender),
                    *version_lines("receiver's snapshots", conflict.receiver),
                    (
                        "  next: rename or destroy the replica on the receiver, so that it is sent "
                        "anew; nothing is ever overwritten"
                    ),
                ]
            )
        case Diverged():
            ancestor = conflict.ancestor
            return "\n".join(
                [
                    (
                        f"{filesystem}: the receiver has snapshots of its own since the common "
                        f"{ancestor.relative}"
                    ),
                    *version_lines("only on the receiver", conflict.receiver_only),
                    *version_lines("only on the sender", conflict.sender_only),
                    f"  common: {ancestor.relative} (guid {ancestor.guid:#x})",
                    (
                        "  next: on the receiver, roll the replica back to the common snapshot "
                        "(`zfs rollback -r`, destroys its own ones), or rename it and let it be sent "
                        "anew"
                    ),
                ]
            )
        case _:
            assert_never(conflict)
