"""What a side knows of its datasets in a run: one listing for all of planning, and for what follows.

A peer asks for the versions of one filesystem after the other, and each increment needs to know which
holds and cursors there are: answered one by one, that is several zfs processes each. So what was
listed is remembered, and kept up with what we do ourselves. What others do meanwhile is met by zfs,
which then refuses; a full send, where it would not, lists anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import trio

from zrepl_trio.endpoint.guarantees import Changes, after_changes, snapshots_to_query
from zrepl_trio.endpoint.listing import versions_of
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.model import Dataset, FilesystemVersion, Hold
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["REMEMBERED_S", "Remembered"]

REMEMBERED_S = 60.0
"""How long a listing may answer for the disk."""


@dataclass(slots=True)
class _State:
    """The versions of a dataset, and the holds on them; None: not asked for yet."""

    versions: list[FilesystemVersion]
    holds: list[Hold] | None


class Remembered:
    """The datasets that a peer was last told of."""

    def __init__(self, zfs: Zfs, configured: Collection[DatasetPath] = ()) -> None:
        """For `configured` see `listing_roots`."""
        self._zfs = zfs
        self._configured = configured
        self._expected: set[DatasetPath] = set()
        self._datasets: dict[DatasetPath, Dataset] = {}
        self._datasets_until = 0.0
        self._known: dict[DatasetPath, _State] = {}
        self._until = 0.0
        self._listing = trio.Lock()

    def expect(self, datasets: Collection[Dataset]) -> None:
        """A peer was just told of these datasets, and will ask for each: nothing listed before this
        counts any more."""
        self._datasets = {dataset.path: dataset for dataset in datasets}
        self._datasets_until = trio.current_time() + REMEMBERED_S
        self._expected = set(self._datasets)
        self._known = {}
        self._until = 0.0

    def forget(self, path: DatasetPath) -> None:
        """Something of this dataset has changed, or is not as it was thought to be."""
        self._datasets.pop(path, None)
        self._known.pop(path, None)
        self._expected.discard(path)

    def dataset(self, path: DatasetPath) -> Dataset | None:
        """As it was listed; None when it has to be asked for."""
        fresh = trio.current_time() < self._datasets_until
        return self._datasets.get(path) if fresh else None

    async def of(self, path: DatasetPath) -> list[FilesystemVersion]:
        """Its versions; raises as `Zfs.versions`."""
        state = await self._state(path)
        return state.versions if state is not None else await self._zfs.versions(path)

    async def all_of(
        self, paths: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        """The versions of each, listed now; raises as `versions_of`."""
        async with self._listing:
            until = trio.current_time() + REMEMBERED_S
            listed = await versions_of(self._zfs, paths, self._configured)
            self._remember(listed, until)
        return listed

    async def with_holds(self, path: DatasetPath) -> tuple[list[FilesystemVersion], list[Hold]]:
        """Its versions, and the holds on them; no command when there can be none, and one for all
        datasets that are remembered."""
        state = await self._state(path)
        if state is None:
            versions = await self._zfs.versions(path)
            return versions, await self._holds(path, versions)
        if state.holds is None:
            await self._list_holds(path, state)
        return state.versions, state.holds or []

    def changed(
        self,
        path: DatasetPath,
        changes: Changes,
        versions: Sequence[FilesystemVersion],
        holds: Sequence[Hold],
    ) -> None:
        """We have made these changes to what it was, and others made none."""
        if path in self._known:
            self._known[path] = _State(*after_changes(path, changes, versions, holds))

    def did(self, path: DatasetPath, changes: Changes) -> None:
        """The same, for changes that were put off: to what it is known to be now."""
        state = self._known.get(path)
        if state is not None and state.holds is not None:
            self.changed(path, changes, state.versions, state.holds)

    async def _state(self, path: DatasetPath) -> _State | None:
        async with self._listing:
            if path in self._expected and trio.current_time() >= self._until:
                await self._list()
            if trio.current_time() < self._until:
                return self._known.get(path)
        return None

    async def _list(self) -> None:
        expected = frozenset(self._expected)
        try:
            listed = await versions_of(self._zfs, expected, self._configured)
        except ZfsError:
            # Perhaps one of them only, such as a dataset that a stuck child blocks: no listing for all.
            self._expected = set()
            return
        self._remember(listed, trio.current_time() + REMEMBERED_S)

    def _remember(
        self, listed: Mapping[DatasetPath, list[FilesystemVersion]], until: float
    ) -> None:
        # what has changed meanwhile is not among the expected any more
        self._known = {
            path: _State(versions, None if snapshots_to_query(versions) else [])
            for path, versions in listed.items()
            if path in self._expected
        }
        self._until = until

    async def _list_holds(self, path: DatasetPath, wanted: _State) -> None:
        async with self._listing:
            if wanted.holds is not None:
                return
            asked = {p: state for p, state in self._known.items() if state.holds is None}
            try:
                found = await self._zfs.holds_of(
                    {p: snapshots_to_query(state.versions) for p, state in asked.items()}
                )
            except ZfsError:
                # one of the snapshots may be gone: that is the business of its own dataset only
                wanted.holds = await self._holds(path, wanted.versions)
                return
            for each, state in asked.items():
                state.holds = found.get(each, [])
            if wanted.holds is None:  # forgotten meanwhile
                wanted.holds = await self._holds(path, wanted.versions)

    async def _holds(self, path: DatasetPath, versions: Sequence[FilesystemVersion]) -> list[Hold]:
        snapshots = snapshots_to_query(versions)
        return await self._zfs.holds(path, snapshots) if snapshots else []
