"""Lists what zrepl keeps in ZFS, and lets go of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import trio

from zrepl_trio.endpoint.abstractions import step_tag
from zrepl_trio.endpoint.inventory import Abstraction, AbstractionType, Selection, abstractions_on
from zrepl_trio.endpoint.protect import holds_on
from zrepl_trio.errors import DatasetNotFound, ZfsError
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["Listing", "hold_step", "list_abstractions", "release"]


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found, by filesystem in ZFS's order, and by filesystem what could not be listed."""

    abstractions: Sequence[Abstraction]
    errors: Sequence[tuple[DatasetPath, ZfsError]]


async def list_abstractions(zfs: Zfs, selection: Selection, *, concurrency: int = 1) -> Listing:
    """All that `selection` means, `concurrency` filesystems asked at once.

    Raises a ZfsError only when the filesystems themselves cannot be listed.
    """
    chosen = selection.filesystems
    if isinstance(chosen, FilesystemFilter):
        paths = [each.path for each in await zfs.datasets() if chosen.admits(each.path)]
    else:
        paths = [chosen]
    found: dict[DatasetPath, list[Abstraction]] = {}
    errors: dict[DatasetPath, ZfsError] = {}
    limit = trio.CapacityLimiter(concurrency)

    async def ask(path: DatasetPath) -> None:
        async with limit:
            try:
                versions = await zfs.versions(path)
                holds = await holds_on(zfs, path, versions) if selection.wants_holds else []
            except ZfsError as error:
                errors[path] = error
            else:
                listed = abstractions_on(path, versions, holds)
                found[path] = [each for each in listed if selection.admits(each)]

    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(ask, path)
    return Listing(
        [each for path in paths for each in found.get(path, ())],
        [(path, errors[path]) for path in paths if path in errors],
    )


async def release(
    zfs: Zfs, abstractions: Sequence[Abstraction]
) -> AsyncIterator[tuple[Abstraction, ZfsError | None]]:
    """Release the holds and destroy the bookmarks; each with its failure. What has gone meanwhile
    is fine. Holds with one tag on one filesystem go in one command."""
    batches: dict[tuple[DatasetPath, str], list[Abstraction]] = {}
    for each in abstractions:
        batches.setdefault((each.dataset, each.tag), []).append(each)
    for (dataset, tag), batch in batches.items():
        if tag and await _failure(zfs, dataset, tag, batch) is None:
            for each in batch:
                yield each, None
            continue
        # one by one: so bookmarks go anyway, and each hold gets a reason of its own
        for each in batch:
            yield each, await _failure(zfs, dataset, tag, [each])


async def _failure(
    zfs: Zfs, dataset: DatasetPath, tag: str, batch: Sequence[Abstraction]
) -> ZfsError | None:
    try:
        if tag:
            await zfs.release(dataset, [each.version.name for each in batch], tag)
        else:
            for each in batch:
                await zfs.destroy_bookmark(dataset, each.version.name)
    except ZfsError as error:
        return error
    return None


async def hold_step(zfs: Zfs, dataset: DatasetPath, snapshot: str, job: str) -> Abstraction:
    """Put that job's step hold on the snapshot (idempotent); DatasetNotFound when it is not there."""
    for version in await zfs.versions(dataset):
        if version.is_snapshot and version.name == snapshot:
            tag = step_tag(job)
            await zfs.hold(dataset, [snapshot], tag)
            return Abstraction(
                type=AbstractionType.STEP, dataset=dataset, version=version, job=job, tag=tag
            )
    raise DatasetNotFound(f"snapshot {dataset}@{snapshot} does not exist", dataset=dataset)
