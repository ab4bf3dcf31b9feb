"""One listing of a side's versions for all the questions of one planning.

A peer asks for the versions of one filesystem after the other: answered one by one, that is a zfs
process each. What is remembered serves such questions only. What acts lists anew.
"""

from __future__ import annotations

from collections.abc import Collection

import trio

from zrepl_trio.endpoint.listing import versions_of
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["REMEMBERED_S", "RememberedVersions"]

REMEMBERED_S = 60.0
"""How long a listing may answer for the disk."""


class RememberedVersions:
    """The versions of the datasets that a peer was last told of."""

    def __init__(self, zfs: Zfs, configured: Collection[DatasetPath] = ()) -> None:
        """For `configured` see `listing_roots`."""
        self._zfs = zfs
        self._configured = configured
        self._expected: set[DatasetPath] = set()
        self._known: dict[DatasetPath, list[FilesystemVersion]] = {}
        self._until = 0.0
        self._listing = trio.Lock()

    def expect(self, paths: Collection[DatasetPath]) -> None:
        """A peer was just told of these datasets, and will ask for each: nothing listed before this
        counts any more."""
        self._expected = set(paths)
        self._known = {}
        self._until = 0.0

    def forget(self, path: DatasetPath) -> None:
        """Something of this dataset has changed, or is not as it was thought to be."""
        self._known.pop(path, None)
        self._expected.discard(path)

    async def of(self, path: DatasetPath) -> list[FilesystemVersion]:
        """Its versions; raises as `Zfs.versions`."""
        async with self._listing:
            if path in self._expected and trio.current_time() >= self._until:
                await self._list()
            if path in self._known and trio.current_time() < self._until:
                return self._known[path]
        return await self._zfs.versions(path)

    async def _list(self) -> None:
        expected = frozenset(self._expected)
        try:
            listed = await versions_of(self._zfs, expected, self._configured)
        except ZfsError:
            # Perhaps one of them only, such as a dataset that a stuck child blocks: no listing for all.
            self._expected = set()
            return
        # what has changed meanwhile is not among the expected any more
        self._known = {path: listed[path] for path in listed if path in self._expected}
        self._until = trio.current_time() + REMEMBERED_S
