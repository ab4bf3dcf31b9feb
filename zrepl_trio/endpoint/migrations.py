"""What zrepl's two migrations do to one filesystem: pure, from what a listing shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zrepl_trio.endpoint.abstractions import LEGACY_CURSOR, newest_cursor
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import Dataset, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["CursorMove", "owner_of", "plan_cursor_move", "wants_placeholder_rewrite"]


@dataclass(frozen=True, slots=True)
class CursorMove:
    """zrepl's first cursor, to be destroyed, and the job's newest one of today, which replaces it."""

    old: FilesystemVersion
    new: FilesystemVersion


def wants_placeholder_rewrite(dataset: Dataset) -> bool:
    """Whether it is a placeholder by 0.0.x's hash, so that its property is to become `on`."""
    return dataset.is_placeholder and dataset.placeholder_value != "on"


def owner_of(dataset: DatasetPath, senders: Iterable[tuple[str, FilesystemFilter]]) -> str | None:
    """The one job whose filter admits the filesystem, None when none does.

    `senders` are the names and filters of the push and source jobs. Refused when two admit it,
    since the first cursor does not tell whose it is.
    """
    owners = [name for name, admitting in senders if admitting.admits(dataset)]
    if len(owners) > 1:
        raise Refused(
            f"jobs {' and '.join(map(repr, owners))} all send {dataset}: whose cursor is it? "
            "Narrow their `filesystems`, or destroy "
            f"{dataset}#{LEGACY_CURSOR} by hand once all of them have replicated"
        )
    return owners[0] if owners else None


def plan_cursor_move(
    dataset: DatasetPath, job: str, versions: Sequence[FilesystemVersion]
) -> CursorMove | None:
    """What replaces the first cursor, None when there is no such cursor.

    Refused while the job has no cursor of today's form that is at least as new: the old one may
    then be the only common base left.
    """
    old = next((v for v in versions if not v.is_snapshot and v.name == LEGACY_CURSOR), None)
    if old is None:
        return None
    new = newest_cursor(versions, job)
    if new is None:
        raise Refused(
            f"{dataset}#{LEGACY_CURSOR}: job {job!r} has no v2 replication cursor on {dataset}; "
            "let it replicate once, then migrate again"
        )
    if new.createtxg < old.createtxg:
        raise Refused(
            f"{dataset}#{LEGACY_CURSOR} is newer than the v2 cursor of job {job!r} "
            f"({new.relative}); let the job replicate once, then migrate again"
        )
    return CursorMove(old, new)
