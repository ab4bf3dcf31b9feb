"""Bookmarks: one by a command, those of many datasets by one call of OpenZFS's C library where it is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import structlog

from zrepl_trio.errors import DatasetExists, DatasetNotFound, ZfsError
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.commands import Commands
from zrepl_trio.zfs.library import Library
from zrepl_trio.zfs.model import FilesystemVersion, Property
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.same_version import another_by_now, check_existing_bookmark

__all__ = ["Bookmarks"]

log = structlog.get_logger()

_Make: TypeAlias = Mapping[DatasetPath, Mapping[str, FilesystemVersion]]
_Destroy: TypeAlias = Mapping[DatasetPath, Collection[str]]

_FEW = 3
"""So many are changed sooner by commands than the child of the library starts."""


class Bookmarks:
    """What `Zfs` says of bookmarks; `versions` and `properties_of` are its, too."""

    def __init__(
        self,
        commands: Commands,
        library: Library,
        *,
        versions: Callable[[DatasetPath], Awaitable[list[FilesystemVersion]]],
        properties_of: Callable[
            [Sequence[str], Sequence[str]], Awaitable[dict[str, dict[str, Property]]]
        ],
    ) -> None:
        self._commands = commands
        self._library = library
        self._versions = versions
        self._properties_of = properties_of

    async def make(self, path: DatasetPath, snapshot: FilesystemVersion, name: str) -> None:
        """See `Zfs.bookmark`."""
        if snapshot.is_snapshot:
            try:
                await self._commands.do(argv.bookmark(path, snapshot.name, name), path)
                return
            except DatasetExists:
                pass
        check_existing_bookmark(path, snapshot, name, await self._versions(path))

    async def destroy(self, path: DatasetPath, name: str) -> None:
        """See `Zfs.destroy_bookmark`."""
        try:
            await self._commands.do(argv.destroy_bookmark(path, name), path)
        except DatasetNotFound:
            return

    async def in_bulk(self) -> bool:
        """See `Zfs.bookmarks_in_bulk`."""
        return await self._library.there()

    async def change(self, make: _Make, destroy: _Destroy) -> None:
        """See `Zfs.change_bookmarks`."""
        if await self._all_at_once(make, destroy):
            return
        wanted = [(path, name, of) for path, each in make.items() for name, of in each.items()]
        for path, name, snapshot in wanted:
            await self.make(path, snapshot, name)
        if wanted:
            await self._check(wanted)
        for path, names in destroy.items():
            for name in names:
                await self.destroy(path, name)

    async def _check(self, wanted: Sequence[tuple[DatasetPath, str, FilesystemVersion]]) -> None:
        full = [f"{path}#{name}" for path, name, _ in wanted]
        made = await self._properties_of(full, ["guid"])
        for bookmark, (path, name, snapshot) in zip(full, wanted, strict=True):
            if int(made[bookmark]["guid"].value) != snapshot.guid:
                await self.destroy(path, name)
                raise another_by_now(path, name, snapshot)

    async def _all_at_once(self, make: _Make, destroy: _Destroy) -> bool:
        """Whether it went well; if not, each by itself is told from one that is there, or gets its own
        reason."""
        made = {
            f"{path}#{name}": (f"{path}@{snapshot.name}", snapshot.guid)
            for path, snapshots in make.items()
            for name, snapshot in snapshots.items()
            if snapshot.is_snapshot
        }
        gone = [f"{path}#{name}" for path, names in destroy.items() for name in names]
        if len(made) < sum(map(len, make.values())) or len(made) + len(gone) <= _FEW:
            return False
        if not await self._library.there():
            return False
        try:
            await self._library.change(made, gone)
        except ZfsError as error:
            log.debug("bookmarks go one by one", err=str(error))
            return False
        return True
