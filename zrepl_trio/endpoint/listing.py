"""Lists the versions of many datasets with few zfs processes."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from zrepl_trio.errors import DatasetNotFound
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["covering_roots", "listing_roots", "versions_of"]

_FEW = 1
"""Up to so many datasets are listed by themselves, which reads nothing beside them."""


def covering_roots(paths: Collection[DatasetPath]) -> list[DatasetPath]:
    """The topmost of `paths`: every one is at or below exactly one of them."""
    return list(_covering_roots(frozenset(paths)))


@lru_cache(maxsize=8)
def _covering_roots(paths: frozenset[DatasetPath]) -> tuple[DatasetPath, ...]:
    # mostly those of the run before
    roots: list[DatasetPath] = []
    for path in sorted(paths, key=lambda path: path.components):
        if not roots or not path.is_at_or_below(roots[-1]):
            roots.append(path)
    return tuple(roots)


def listing_roots(
    paths: Collection[DatasetPath], configured: Collection[DatasetPath]
) -> list[DatasetPath]:
    """Where to list from: at the topmost of `paths`, or at a configured root with several of them
    below it, at the price of reading what else is there."""
    below: dict[DatasetPath, list[DatasetPath]] = {}
    for path in covering_roots(paths):
        above = next((root for root in configured if path.is_at_or_below(root)), path)
        below.setdefault(above, []).append(path)
    return covering_roots([root if len(of) > 1 else of[0] for root, of in below.items()])


async def versions_of(
    zfs: Zfs, paths: Collection[DatasetPath], configured: Collection[DatasetPath] = ()
) -> dict[DatasetPath, list[FilesystemVersion]]:
    """The versions of each; one that does not exist (any more) is absent, unless it lies below
    another of `paths`, or of `configured` (see `listing_roots`): then it is empty."""
    listed: dict[DatasetPath, list[FilesystemVersion]] = {}
    if len(paths) > _FEW:
        try:
            below = await zfs.versions_below(listing_roots(paths, configured))
        except DatasetNotFound:
            pass  # one of the roots has gone: ask for each, and leave out that one
        else:
            return {path: below.get(path, []) for path in paths}
    for path in paths:
        try:
            listed[path] = await zfs.versions(path)
        except DatasetNotFound:
            continue
    return listed
