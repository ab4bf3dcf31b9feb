"""What a job finds on one of its own filesystems before it acts."""

from __future__ import annotations

from zrepl_trio.endpoint.model import Marks
from zrepl_trio.endpoint.protect import holds_on
from zrepl_trio.errors import DatasetNotFound
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["marks_on"]


async def marks_on(zfs: Zfs, dataset: DatasetPath, job: str) -> Marks:
    """All of it; nothing where there is no such dataset. Costs one zfs process, and another where anything
    is held. Raises ZfsError."""
    try:
        versions = await zfs.versions(dataset)
        holds = await holds_on(zfs, dataset, versions)
    except DatasetNotFound:
        return Marks(job=job, holds=())
    return Marks(job=job, versions=versions, holds=holds)
