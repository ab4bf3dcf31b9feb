"""What a side knows of its datasets in a run: one listing for all of planning, and for what follows.

A peer asks for the versions of one filesystem after the other, and each increment needs to know which
holds and cursors there are: answered one by one, that is several zfs processes each. So what was
listed is remembered, and kept up with what we do ourselves. What others do meanwhile is met by zfs,
which then refuses; a full send, where it would not, lists anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from zrepl_trio.endpoint.guarantees import Changes, after_changes, snapshots_to_query
from zrepl_trio.endpoint.listing import versions_of
from zrepl_trio.endpoint.protect import holds_on
from zrepl_trio.endpoint.taking import Taking
from zrepl_trio.errors import DatasetNotFound, ZfsError
from zrepl_trio.zfs.model import DatasetBrief, FilesystemVersion, Hold
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["REMEMBERED_S", "Remembered"]

D = TypeVar("D", bound=DatasetBrief)

REMEMBERED_S = 60.0
"""How long a listing may answer for the disk."""


@dataclass(slots=True)
class _State:
    """The versions of a dataset, and the holds on them; None: not asked for yet. `changes` have come since then."""

    versions: list[FilesystemVersion]
    holds: list[Hold] | None
    changes: list[tuple[Changes, FilesystemVersion | None]] = field(default_factory=list)

    def catch_up(self, path: DatasetPath) -> None:
        """What they are after the changes: made out once somebody asks, which after a run's last ones nobody does."""
        for changes, received in self.changes:
            versions = self.versions
            if received is not None and received.guid not in [v.guid for v in versions]:
                versions = [*versions, received]
            self.versions, self.holds = after_changes(path, changes, versions, self.holds or ())
        self.changes.clear()


class Remembered(Generic[D]):
    """The datasets that a peer was last told of, each as `D`."""

    def __init__(self, zfs: Zfs, configured: Collection[DatasetPath] = ()) -> None:
        """For `configured` see `listing_roots`."""
        self._zfs = zfs
        self._configured = configured
        self._expected: set[DatasetPath] = set()
        self._datasets: dict[DatasetPath, D] = {}
        self._datasets_until = 0.0
        self._known: dict[DatasetPath, _State] = {}
        self._until = 0.0
        self._touched: set[DatasetPath] = set()
        self._planning = 0
        self._holds_in_bulk = True
        self._listing = trio.Lock()

    def expect(self, datasets: Collection[D]) -> None:
        """A peer was just told of these datasets, and will ask for each: nothing listed before this
        counts any more."""
        self._datasets = {dataset.path: dataset for dataset in datasets}
        self._datasets_until = trio.current_time() + REMEMBERED_S
        self._expected = set(self._datasets)
        self._known = {}
        self._until = 0.0
        self._planning += 1
        self._holds_in_bulk = True

    def forget(self, path: DatasetPath) -> None:
        """Something of this dataset has changed, or is not as it was thought to be."""
        self._datasets.pop(path, None)
        self._known.pop(path, None)
        self._expected.discard(path)
        self._touched.add(path)

    def drop_stale(self) -> bool:
        """Give back the memory of what may not answer any more; whether anything is left."""
        now = trio.current_time()
        if now >= self._datasets_until:
            self._datasets = {}
        if now >= self._until:
            self._known = {}
        return bool(self._datasets or self._known)

    def dataset(self, path: DatasetPath) -> D | None:
        """As it was listed; None when it has to be asked for."""
        fresh = trio.current_time() < self._datasets_until
        return self._datasets.get(path) if fresh else None

    async def of(self, path: DatasetPath) -> list[FilesystemVersion]:
        """Its versions; raises as `Zfs.versions`."""
        state = self._fresh(path) if not self._listing.locked() else None
        if state is None:  # or a newer listing is on its way
            async with Taking(self._listing):
                if path in self._expected and trio.current_time() >= self._until:
                    await self._list()
                state = self._fresh(path)
        return state.versions if state is not None else await self._zfs.versions(path)

    async def all_of(
        self, paths: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        """The versions of each, listed now; raises as `versions_of`."""
        async with Taking(self._listing):
            self._touched.clear()
            planning = self._planning
            listed = await versions_of(self._zfs, paths, self._configured)
            self._remember(listed, planning)
        return listed

    async def with_holds(self, path: DatasetPath) -> tuple[list[FilesystemVersion], list[Hold]]:
        """Its versions, and the holds on them; no command when there can be none, and one for all
        datasets that are remembered. What is not remembered is listed alone."""
        state = self._fresh(path)
        try:
            if state is not None:
                return state.versions, await self._holds_in(path, state)
        except DatasetNotFound:
            self.forget(path)  # what had a hold when it was listed is gone by now
        versions = await self._zfs.versions(path)
        return versions, await holds_on(self._zfs, path, versions)

    def did(
        self, path: DatasetPath, changes: Changes, received: FilesystemVersion | None = None
    ) -> None:
        """We have made these changes, and taken in a snapshot if one is given."""
        self._touched.add(path)
        state = self._known.get(path)
        if state is None:
            return
        if state.holds is None:
            self.forget(path)
            return
        if trio.current_time() >= self._until:
            del self._known[path]  # it is not asked any more, and would only grow
            return
        state.changes.append((changes, received))

    def _fresh(self, path: DatasetPath) -> _State | None:
        state = self._known.get(path) if trio.current_time() < self._until else None
        if state is not None and state.changes:
            state.catch_up(path)
        return state

    async def _list(self) -> None:
        expected = frozenset(self._expected)
        self._touched.clear()
        planning = self._planning
        try:
            listed = await versions_of(self._zfs, expected, self._configured)
        except ZfsError:
            # Perhaps one of them only, such as a dataset that a stuck child blocks: no listing for all.
            self._expected = set()
            return
        self._remember(listed, planning)

    def _remember(
        self, listed: Mapping[DatasetPath, list[FilesystemVersion]], planning: int
    ) -> None:
        if planning != self._planning:
            return  # it began before the peer was told of what it asks for now
        self._known = {
            path: _State(versions, None if snapshots_to_query(versions) else [])
            for path, versions in listed.items()
            if path in self._expected and path not in self._touched
        }
        self._until = trio.current_time() + REMEMBERED_S

    async def _holds_in(self, path: DatasetPath, state: _State) -> list[Hold]:
        if state.holds is None:
            async with Taking(self._listing):
                if state.holds is None and self._holds_in_bulk:
                    await self._list_holds()
            if state.holds is None:
                state.holds = await holds_on(self._zfs, path, state.versions)
        return state.holds

    async def _list_holds(self) -> None:
        asked = {path: state for path, state in self._known.items() if state.holds is None}
        snapshots = {p: snapshots_to_query(state.versions) for p, state in asked.items()}
        try:
            found = await self._zfs.holds_of(snapshots)
        except ZfsError:
            # one of the snapshots may be gone: that is the business of its own dataset only
            self._holds_in_bulk = False
            return
        for path, state in asked.items():
            if state.holds is None:
                state.holds = found.get(path, [])
