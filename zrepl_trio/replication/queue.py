"""Which step is next: the oldest target first, parents before children. Pure.

All filesystems so advance through time together. A child waits until each of its parents in
the plan has data on the receiver; if a parent's first step fails and there is nothing in its
place, the child cannot be put anywhere. Planning errors stop nobody else.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from zrepl_trio.values import valueclass
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Entry", "StepQueue"]


@valueclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One planned filesystem: the creation times of its steps' targets, in order.

    `present`, `exists` and `parents` are those of its plan.
    """

    path: DatasetPath
    targets: tuple[int, ...]
    present: bool
    exists: bool
    parents: tuple[DatasetPath, ...]


class StepQueue:
    """Hands out filesystems whose next step may run now, at most `slots` at once.

    The caller tells by `done` and `failed` how each step taken went.
    """

    def __init__(self, entries: Iterable[Entry], *, slots: int) -> None:
        self._entries = {entry.path: entry for entry in entries}
        self._slots = slots
        self._next = dict.fromkeys(self._entries, 0)
        self._running: set[DatasetPath] = set()
        self._ready: list[tuple[int, tuple[str, ...], DatasetPath]] = []
        self._unmet: dict[DatasetPath, set[DatasetPath]] = {}
        self._dependents: dict[DatasetPath, list[DatasetPath]] = {}
        self._orphans: dict[DatasetPath, list[DatasetPath]] = {}
        pending = {
            entry.path for entry in self._entries.values() if entry.targets and not entry.present
        }
        for entry in self._entries.values():
            unmet = pending.intersection(entry.parents)
            self._unmet[entry.path] = unmet
            for ancestor in unmet:
                self._dependents.setdefault(ancestor, []).append(entry.path)
            self._push(entry.path)

    @property
    def running(self) -> int:
        """How many steps are out."""
        return len(self._running)

    @property
    def unfinished(self) -> list[DatasetPath]:
        """Filesystems with steps left that neither run nor failed."""
        return [
            path
            for path, entry in self._entries.items()
            if self._next[path] < len(entry.targets) and path not in self._running
        ]

    def take(self) -> DatasetPath | None:
        """The filesystem whose next step is to be started now; None: wait for one to end."""
        if len(self._running) >= self._slots or not self._ready:
            return None
        path = heapq.heappop(self._ready)[2]
        self._running.add(path)
        return path

    def done(self, path: DatasetPath, steps: int = 1) -> list[DatasetPath]:
        """So many steps of `path` succeeded; gives the children that need to wait no longer."""
        self._running.remove(path)
        self._next[path] += steps
        freed = self._settle(path)
        self._push(path)
        return freed

    def failed(self, path: DatasetPath) -> list[DatasetPath]:
        """The step of `path` failed: it has no further ones in this queue. Gives the children
        that need to wait no longer; those that can't go on are `orphans`."""
        self._running.remove(path)
        first = self._next[path] == 0
        entry = self._entries[path]
        self._next[path] = len(entry.targets)
        if not first or entry.exists:
            # there is something to put children below
            return self._settle(path)
        for child in self._dependents.pop(path, []):
            self._orphans.setdefault(child, []).append(path)
            self._next[child] = len(self._entries[child].targets)
        return []

    def waits_for_parent(self, path: DatasetPath) -> bool:
        """Whether an ancestor's first step must succeed before any of this one's."""
        return bool(self._unmet[path])

    def orphans(self) -> dict[DatasetPath, list[DatasetPath]]:
        """Filesystems that lost an ancestor since the last call, with which ones."""
        orphans, self._orphans = self._orphans, {}
        return orphans

    def _settle(self, path: DatasetPath) -> list[DatasetPath]:
        freed = []
        for child in self._dependents.pop(path, []):
            self._unmet[child].discard(path)
            if not self._unmet[child]:
                self._push(child)
                freed.append(child)
        return freed

    def _push(self, path: DatasetPath) -> None:
        index, targets = self._next[path], self._entries[path].targets
        if index < len(targets) and not self._unmet[path] and path not in self._running:
            heapq.heappush(self._ready, (targets[index], path.components, path))
