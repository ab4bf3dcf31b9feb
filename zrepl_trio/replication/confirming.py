"""Steps that arrived, of which the sender was never told: the run was killed in between. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.endpoint.abstractions import CursorKind, parse_cursor
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, SendRequest
from zrepl_trio.zfs.model import FilesystemVersion, in_order
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["unconfirmed"]


def unconfirmed(
    filesystem: DatasetPath,
    sender: Sequence[FilesystemVersion],
    receiver: Sequence[FilesystemVersion],
    protection: Protection,
) -> SendRequest | None:
    """What to confirm of a filesystem that is up to date, None when the sender knows.

    It knows when there is a cursor at the newest snapshot, of whatever job. Without, its old cursor,
    and the holds of the step, would stay until the next snapshot comes.
    """
    here = [v for v in in_order(sender) if v.is_snapshot]
    there = [v for v in in_order(receiver) if v.is_snapshot]
    if not here or not there or here[-1].guid != there[-1].guid:
        return None
    to = here[-1]
    from_ = here[-2] if len(here) > 1 else None
    kind = protection.initial if from_ is None else protection.incremental
    if kind is GuaranteeKind.NOTHING:
        return None
    cursors = (parse_cursor(v.name) for v in sender if not v.is_snapshot)
    if any(c is not None and c.kind is CursorKind.CURSOR and c.guid == to.guid for c in cursors):
        return None
    return SendRequest(filesystem=filesystem, from_=from_, to=to, protection=protection)
