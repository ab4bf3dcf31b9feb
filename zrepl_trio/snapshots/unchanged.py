"""Which filesystems were not written to since their newest snapshot of the job."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import structlog

from zrepl_trio.endpoint.listing import versions_of
from zrepl_trio.errors import ZfsError
from zrepl_trio.snapshots.rhythm import newest_named
from zrepl_trio.zfs.model import Dataset, in_order
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["unchanged"]

log = structlog.get_logger()


async def unchanged(
    zfs: Zfs, datasets: Sequence[Dataset], prefix: str, roots: Collection[DatasetPath] = ()
) -> frozenset[DatasetPath]:
    """Those of the listed that have a snapshot with the prefix and hold nothing that was written since the
    newest of them, whoever took others meanwhile. What cannot be told counts as changed. `roots` is where
    to list from, see `versions_of`."""
    # written to since its newest snapshot of all, it was since that of the job
    quiet = [each.path for each in datasets if each.written == 0]
    found: set[DatasetPath] = set()
    try:
        listed = await versions_of(zfs, quiet, roots) if quiet else {}
        for path, versions in listed.items():
            ours = newest_named(versions, prefix)
            if ours is None:
                continue
            newest = [version for version in in_order(versions) if version.is_snapshot][-1]
            if newest == ours or await _written_since(zfs, path, ours.name) == "0":
                found.add(path)
    except ZfsError as error:
        log.warning("cannot tell what was written; snapshots are taken of all", err=str(error))
        return frozenset()
    return frozenset(found)


async def _written_since(zfs: Zfs, path: DatasetPath, name: str) -> str:
    prop = f"written@{name}"
    return (await zfs.properties(path, [prop]))[prop].value
