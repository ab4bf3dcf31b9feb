"""Destroys exactly the snapshots a peer listed: not others that took their names since, and none that
this side keeps whatever a peer asks for."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from zrepl_trio.endpoint.abstractions import parse_last_received_tag
from zrepl_trio.endpoint.refusals import AWAITED, HELD, Floor, no_floor
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["destroy_listed"]

log = structlog.get_logger()


async def destroy_listed(
    zfs: Zfs,
    dataset: DatasetPath,
    snapshots: Sequence[FilesystemVersion],
    *,
    floor: Floor = no_floor,
    sent_on: bool = False,
) -> list[DestroyResult]:
    """One result a snapshot, in order. Refused when any of them is a bookmark.

    A snapshot whose name now belongs to another guid, and one that is held, is left alone and
    reported; one that is gone counts as destroyed. What the `floor` keeps is refused, and logged. With `sent_on`,
    the peer has it from here: of what is received here itself, it may have all but what the next increment
    goes on from, also while the hold for that has not moved there, as after a crash.
    """
    for version in snapshots:
        if not version.is_snapshot:
            raise Refused(f"version {version.name!r} is not a snapshot")
    if not snapshots:
        return []
    versions = await zfs.versions(dataset)
    wanted = {v.name for v in snapshots}
    there = {v.name: v for v in versions if v.name in wanted and v.kind is VersionKind.SNAPSHOT}
    kept = floor(versions)
    results: dict[str, DestroyResult] = {}
    for version in snapshots:
        ours = there.get(version.name)
        if ours is not None and ours.guid != version.guid:
            text = f"guid is {ours.guid:#x}, not {version.guid:#x}: left alone"
            results[version.name] = DestroyResult(version.name, text)
        elif ours is not None and version.name in kept:
            results[version.name] = DestroyResult(version.name, kept[version.name])
        elif ours is not None and ours.userrefs:
            results[version.name] = DestroyResult(version.name, f"{version.full(dataset)} {HELD}")
    refused = [name for name in results if name in kept]
    if refused:
        log.warning(
            "a client wanted snapshots destroyed that the floor keeps",
            filesystem=str(dataset),
            refused=len(refused),
            first=refused[0],
        )
    meant = [v.name for v in snapshots if v.name in there and v.name not in results]
    if meant and sent_on and (awaited := await _awaited(zfs, dataset, versions, meant)):
        meant.remove(awaited)
        results[awaited] = DestroyResult(awaited, f"{dataset}@{awaited} {AWAITED}")
    if meant:
        for result in await zfs.destroy_snapshots(dataset, meant):
            results[result.name] = result
    return [results.get(v.name, DestroyResult(v.name)) for v in snapshots]


async def _awaited(
    zfs: Zfs, dataset: DatasetPath, versions: Sequence[FilesystemVersion], meant: Sequence[str]
) -> str | None:
    """The newest snapshot, if it is one of those and a receiving job still holds one before it."""
    *before, newest = [v for v in versions if v.is_snapshot]
    held = [v.name for v in before if v.userrefs]
    if newest.name not in meant or not held:
        return None
    tags = [hold.tag for hold in await zfs.holds(dataset, held)]
    return newest.name if any(map(parse_last_received_tag, tags)) else None
