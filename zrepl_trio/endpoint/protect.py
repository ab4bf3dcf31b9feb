"""Carries out planned holds and bookmarks, what protects first."""

from __future__ import annotations

import structlog

from zrepl_trio.endpoint.guarantees import Changes, snapshots_to_query
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.model import FilesystemVersion, Hold
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["carry_out", "holds_on"]

log = structlog.get_logger()


async def holds_on(zfs: Zfs, dataset: DatasetPath, versions: list[FilesystemVersion]) -> list[Hold]:
    """The holds on those of `versions` that can have any; no command when none can."""
    snapshots = snapshots_to_query(versions)
    return await zfs.holds(dataset, snapshots) if snapshots else []


async def carry_out(
    zfs: Zfs, dataset: DatasetPath, changes: Changes, *, overdue: bool = False
) -> bool:
    """Make what protects, then drop what is no longer needed; whether all was done. `overdue`: it was made out a
    while ago, so a snapshot's name may be another's by now, which is looked at before anything is dropped.

    A ZfsError while making is raised and nothing is dropped. One while dropping is only
    logged: what stays does no harm but space, and the next step tries again.
    """
    all_done = True
    if changes.hold:
        await zfs.hold(dataset, changes.hold, changes.tag)
    if overdue and changes.bookmark:
        await zfs.change_bookmarks({dataset: {b.name: b.snapshot for b in changes.bookmark}}, {})
    else:
        for bookmark in changes.bookmark:
            await zfs.bookmark(dataset, bookmark.snapshot, bookmark.name)
    if changes.release:
        try:
            await zfs.release(dataset, changes.release, changes.tag)
        except ZfsError as error:
            all_done = False
            log.warning(
                "cannot release old holds",
                filesystem=str(dataset),
                snapshots=list(changes.release),
                tag=changes.tag,
                err=str(error),
            )
    for name in changes.destroy:
        try:
            await zfs.destroy_bookmark(dataset, name)
        except ZfsError as error:
            all_done = False
            log.warning(
                "cannot destroy an old cursor",
                filesystem=str(dataset),
                bookmark=name,
                err=str(error),
            )
    return all_done
