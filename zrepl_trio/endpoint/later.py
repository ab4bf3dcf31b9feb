"""Holds and bookmarks to move and to drop that can wait, so that one command does it for many filesystems.

What waits never protects the next step of its own filesystem: what is needed for what zfs is about
to do is made at once. A kill before it is done leaves a hold or a bookmark more, or one on an older snapshot, until
the next step of that filesystem; a cursor that was to move is moved by the next run.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol

import structlog
import trio

from zrepl_trio.endpoint.guarantees import Changes
from zrepl_trio.endpoint.protect import carry_out
from zrepl_trio.endpoint.taking import Taking
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


class _Claim:
    """Somebody decides about a dataset, or moves what was put off for it; `others` wait for it, in turn. As there are
    seldom any, it is no lock."""

    __slots__ = ("others",)

    def __init__(self) -> None:
        self.others: trio.lowlevel.ParkingLot | None = None


class _Deciding(AbstractAsyncContextManager[None]):
    """Entered for each step, so it is no generator."""

    __slots__ = ("_later", "_path")

    def __init__(self, later: Later, path: DatasetPath) -> None:
        self._later = later
        self._path = path

    async def __aenter__(self) -> None:
        await self._later._begin(self._path)  # noqa: SLF001 - a part of it

    async def __aexit__(self, *_error: object) -> None:
        self._later._end(self._path)  # noqa: SLF001 - a part of it


class Later:
    """What one endpoint has put off; its changes all have one tag."""

    def __init__(self, zfs: Zfs, remembered: Known) -> None:
        self._zfs = zfs
        self._remembered = remembered
        self._waiting: dict[DatasetPath, Changes] = {}
        self._claims: dict[DatasetPath, _Claim] = {}
        self._settling = trio.Lock()
        self._distrusted: set[DatasetPath] = set()

    def deciding(self, path: DatasetPath) -> AbstractAsyncContextManager[None]:
        """In the block, what was put off for `path` is not done, nor being done, and nobody else decides: so the holds
        that are looked at stay as they are. A cursor that was to move is moved before: never is it behind by
        more than one step."""
        return _Deciding(self, path)

    def distrusts(self, path: DatasetPath) -> bool:
        """Whether what was put off for `path` could not be done, of which nobody but the log was told: so
        nothing more is to be put off, but to fail where it is asked for."""
        return path in self._distrusted

    def trust(self, path: DatasetPath) -> None:
        """It was done, after all."""
        self._distrusted.discard(path)

    async def _begin(self, path: DatasetPath) -> None:
        claim = self._claims.get(path)
        if claim is None:
            self._claims[path] = _Claim()
        else:
            if claim.others is None:
                claim.others = trio.lowlevel.ParkingLot()
            await claim.others.park()
        try:
            await self._move_cursor(path)
        except BaseException:
            self._end(path)
            raise

    def _end(self, path: DatasetPath) -> None:
        others = self._claims[path].others
        if others:
            others.unpark()  # whose claim it is now
        else:
            del self._claims[path]

    async def _move_cursor(self, path: DatasetPath) -> None:
        changes = self._waiting.get(path)
        if changes is None or not changes.bookmark:
            return
        with self._on_the_move({path: changes}):
            if await carry_out(self._zfs, path, changes, overdue=True):
                self._remembered.did(path, changes)
            else:
                self._remembered.forget(path)

    @contextmanager
    def _on_the_move(self, waiting: dict[DatasetPath, Changes]) -> Generator[None]:
        """While the block does these, whose claims are ours. When it fails or is cancelled, at any point: it is all to be
        done again."""
        for path in waiting:
            del self._waiting[path]
        try:
            yield
        except BaseException:
            for path, changes in waiting.items():
                self._remembered.forget(path)
                self._waiting[path] = changes
            raise

    async def put_off(self, path: DatasetPath, changes: Changes) -> None:
        """Instead of all that was put off for `path` before: the changes were made out, within `deciding`, by how
        things really are."""
        if changes.hold or changes.bookmark or changes.release or changes.destroy:
            self._waiting[path] = changes
        else:
            self._waiting.pop(path, None)
        if len(self._waiting) >= _MOST:
            await self.settle()

    async def settle(self) -> None:
        """Do what waits, but for datasets about which somebody decides. What zfs refuses is only logged: the next step
        of that filesystem tries again."""
        if not self._waiting and not self._settling.locked():
            return
        async with Taking(self._settling):
            waiting = {p: c for p, c in self._waiting.items() if p not in self._claims}
            if not waiting:
                return
            for path in waiting:
                self._claims[path] = _Claim()
            try:
                with self._on_the_move(waiting):
                    await self._move(waiting)
            finally:
                for path in waiting:
                    self._end(path)

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
            try:
                await carry_out(self._zfs, path, changes, overdue=True)
            except ZfsError as error:
                self._distrusted.add(path)
                log.warning(
                    "cannot move holds or the cursor, which the next step tries again",
                    filesystem=str(path),
                    err=str(error),
                )
            else:
                self._distrusted.discard(path)
            finally:
                # what was listed meanwhile shows a part of it
                self._remembered.forget(path)
