"""Holds and bookmarks to move and to drop that can wait, so that one command does it for many filesystems.

What waits never protects the next step of its own filesystem: what is needed for what zfs is about
to do is made at once. A kill before it is done leaves a hold or a bookmark more, or one on an older snapshot, until
the next step of that filesystem; a cursor that was to move is moved by the next run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
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

    __slots__ = ("_deciding", "_path", "_ready")

    def __init__(
        self,
        path: DatasetPath,
        deciding: Counter[DatasetPath],
        ready: Callable[[DatasetPath], Awaitable[None]],
    ) -> None:
        self._path = path
        self._deciding = deciding
        self._ready = ready

    async def __aenter__(self) -> None:
        await self._ready(self._path)
        self._deciding[self._path] += 1

    async def __aexit__(self, *_error: object) -> None:
        self._deciding[self._path] -= 1
        if not self._deciding[self._path]:
            del self._deciding[self._path]


class Later:
    """What one endpoint has put off; its changes all have one tag."""

    def __init__(self, zfs: Zfs, remembered: Known) -> None:
        self._zfs = zfs
        self._remembered = remembered
        self._waiting: dict[DatasetPath, Changes] = {}
        self._moving: frozenset[DatasetPath] = frozenset()
        self._deciding: Counter[DatasetPath] = Counter()
        self._settling = trio.Lock()
        self._distrusted: set[DatasetPath] = set()

    def deciding(self, path: DatasetPath) -> AbstractAsyncContextManager[None]:
        """In the block, what was put off for `path` is not done, and is not being done: so the holds
        that are looked at stay as they are. A cursor that was to move is moved before: never is it behind by
        more than one step."""
        return _Deciding(path, self._deciding, self._ready)

    def distrusts(self, path: DatasetPath) -> bool:
        """Whether what was put off for `path` could not be done, of which nobody but the log was told: so
        nothing more is to be put off, but to fail where it is asked for."""
        return path in self._distrusted

    def trust(self, path: DatasetPath) -> None:
        """It was done, after all."""
        self._distrusted.discard(path)

    async def _ready(self, path: DatasetPath) -> None:
        while path in self._moving:
            async with self._settling:
                pass
        changes = self._waiting.get(path)
        if changes is None or not changes.bookmark:
            return
        async with self._settling:
            if self._waiting.get(path) is not changes:
                return  # done meanwhile
            with self._on_the_move({path: changes}):
                if await carry_out(self._zfs, path, changes):
                    self._remembered.did(path, changes)
                else:
                    self._remembered.forget(path)

    @contextmanager
    def _on_the_move(self, waiting: dict[DatasetPath, Changes]) -> Generator[None]:
        """While the block does these. When it fails or is cancelled, at any point: it is all to be done again, but for
        what was made out anew."""
        for path in waiting:
            del self._waiting[path]
        self._moving = frozenset(waiting)
        try:
            yield
        except BaseException:
            for path, changes in waiting.items():
                self._remembered.forget(path)
                self._waiting.setdefault(path, changes)
            raise
        finally:
            self._moving = frozenset()

    async def put_off(self, path: DatasetPath, changes: Changes) -> None:
        """Instead of all that was put off for `path` before: the changes were made out by how things
        really are."""
        if changes.hold or changes.bookmark or changes.release or changes.destroy:
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
            if waiting:
                with self._on_the_move(waiting):
                    await self._move(waiting)

    async def _move(self, waiting: dict[DatasetPath, Changes]) -> None:
        tag = next(iter(waiting.values())).tag
        try:
            await self._zfs.hold_of({p: c.hold for p, c in waiting.items() if c.hold}, tag)
            make = {p: c.bookmark for p, c in waiting.items() if c.bookmark}
            destroy = {p: c.destroy for p, c in waiting.items() if c.destroy}
            if make or destroy:
                await self._zfs.change_bookmarks(
                    {p: {b.name: b.snapshot for b in bookmarks} for p, bookmarks in make.items()},
                    destroy,
                )
            await self._zfs.release_of({p: c.release for p, c in waiting.items() if c.release}, tag)
        except ZfsError as error:
            log.debug("what was put off is done one by one", err=str(error))
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
                self._distrusted.add(path)
                log.warning(
                    "cannot move holds or the cursor, which the next step tries again",
                    filesystem=str(path),
                    err=str(error),
                )
            else:
                self._distrusted.discard(path)
