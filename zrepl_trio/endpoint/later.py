"""Holds to move and to drop that can wait, so that one command does it for many filesystems.

What waits never protects the next step of its own filesystem: a hold that is needed for what zfs is about
to do is made at once. A kill before it is done leaves a hold more, or one on an older snapshot, until
the next step of that filesystem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
import trio

from zrepl_trio.endpoint.guarantees import Changes
from zrepl_trio.endpoint.protect import carry_out
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["Known", "Later"]

log = structlog.get_logger()

_MOST = 200
"""So many filesystems at most wait; their snapshots fit into one command line."""


class Known(Protocol):
    """Who is told what becomes of holds: `Remembered`."""

    def forget(self, path: DatasetPath) -> None: ...
    def did(self, path: DatasetPath, changes: Changes) -> None: ...


class _Deciding(AbstractAsyncContextManager[None]):
    """Entered for each step, so it is no generator."""

    __slots__ = ("_deciding", "_moved", "_path")

    def __init__(
        self,
        path: DatasetPath,
        deciding: Counter[DatasetPath],
        moved: Callable[[DatasetPath], Awaitable[None]],
    ) -> None:
        self._path = path
        self._deciding = deciding
        self._moved = moved

    async def __aenter__(self) -> None:
        await self._moved(self._path)
        self._deciding[self._path] += 1

    async def __aexit__(self, *_error: object) -> None:
        self._deciding[self._path] -= 1
        if not self._deciding[self._path]:
            del self._deciding[self._path]


class Later:
    """What one endpoint has put off; its changes all have one tag, and neither bookmarks nor cursors."""

    def __init__(self, zfs: Zfs, remembered: Known) -> None:
        self._zfs = zfs
        self._remembered = remembered
        self._waiting: dict[DatasetPath, Changes] = {}
        self._moving: frozenset[DatasetPath] = frozenset()
        self._deciding: Counter[DatasetPath] = Counter()
        self._settling = trio.Lock()

    def deciding(self, path: DatasetPath) -> AbstractAsyncContextManager[None]:
        """In the block, what was put off for `path` is not done, and is not being done: so the holds
        that are looked at stay as they are."""
        return _Deciding(path, self._deciding, self._moved)

    async def _moved(self, path: DatasetPath) -> None:
        while path in self._moving:
            async with self._settling:
                pass

    async def put_off(self, path: DatasetPath, changes: Changes) -> None:
        """Instead of all that was put off for `path` before: the changes were made out by how things
        really are."""
        if changes.hold or changes.release:
            self._waiting[path] = changes
        else:
            self._waiting.pop(path, None)
        if len(self._waiting) >= _MOST:
            await self.settle()

    async def settle(self) -> None:
        """Do what waits. What zfs refuses is only logged: the next step of that filesystem tries again."""
        if not self._waiting and not self._settling.locked():
            return
        async with self._settling:
            waiting = {p: c for p, c in self._waiting.items() if p not in self._deciding}
            if not waiting:
                return
            for path in waiting:
                del self._waiting[path]
            self._moving = frozenset(waiting)
            try:
                await self._move(waiting)
            except BaseException:
                # Cancelled, at any point: it is all to be done again, but for what was made out anew.
                for path, changes in waiting.items():
                    self._remembered.forget(path)
                    self._waiting.setdefault(path, changes)
                raise
            finally:
                self._moving = frozenset()

    async def _move(self, waiting: dict[DatasetPath, Changes]) -> None:
        tag = next(iter(waiting.values())).tag
        try:
            await self._zfs.hold_of({p: c.hold for p, c in waiting.items() if c.hold}, tag)
            await self._zfs.release_of({p: c.release for p, c in waiting.items() if c.release}, tag)
        except ZfsError as error:
            log.debug("holds are moved one by one", err=str(error))
            await self._one_by_one(waiting)
            return
        for path, changes in waiting.items():
            self._remembered.did(path, changes)

    async def _one_by_one(self, waiting: dict[DatasetPath, Changes]) -> None:
        for path, changes in waiting.items():
            self._remembered.forget(path)
            try:
                await carry_out(self._zfs, path, changes)
            except ZfsError as error:
                log.warning("cannot move holds", filesystem=str(path), err=str(error))
