"""Destroys exactly the snapshots a peer listed, not others that took their names since."""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.errors import Refused
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["destroy_listed"]


async def destroy_listed(
    zfs: Zfs, dataset: DatasetPath, snapshots: Sequence[FilesystemVersion]
) -> list[DestroyResult]:
    """One result a snapshot, in order. Refused when any of them is a bookmark.

    A snapshot whose name now belongs to another guid is left alone and reported; one that is
    gone counts as destroyed.
    """
    for version in snapshots:
        if not version.is_snapshot:
            raise Refused(f"version {version.name!r} is not a snapshot")
    if not snapshots:
        return []
    guids = {v.name: v.guid for v in await zfs.versions(dataset) if v.is_snapshot}
    results = {
        version.name: DestroyResult(
            version.name, f"guid is {guids[version.name]:#x}, not {version.guid:#x}: left alone"
        )
        for version in snapshots
        if version.name in guids and guids[version.name] != version.guid
    }
    meant = [v.name for v in snapshots if v.name in guids and v.name not in results]
    if meant:
        for result in await zfs.destroy_snapshots(dataset, meant):
            results[result.name] = result
    return [results.get(v.name, DestroyResult(v.name)) for v in snapshots]
