"""One side of a job as one client has it: calls are passed on, and what they tell is noted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from zrepl_trio.endpoint.model import Filesystem, Marks, ReceiveRequest, SendRequest, SnapshotTimes
from zrepl_trio.endpoint.protocol import (
    Endpoint,
    MeasuresDestroys,
    NotSupported,
    SendReply,
    StreamSource,
    TellsMarks,
)
from zrepl_trio.endpoint.refusals import FLOOR
from zrepl_trio.errors import ZreplError
from zrepl_trio.replication.freshness import DatasetFreshness
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Keeps", "Served"]


_NOTHING_KNOWN = SnapshotTimes()


class Keeps(Endpoint, Protocol):
    """A side that keeps what it has listed for a while."""

    def drop_stale(self) -> bool: ...


class Served:
    """Passes every call on to `side`; one object serves all connections of the client `identity`.
    What becomes known of a dataset is in `_times`, by the sender's name. `on_refused` is told how many
    snapshots the client wanted destroyed that the floor keeps."""

    def __init__(
        self,
        side: Keeps,
        *,
        identity: str,
        on_refused: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._side = side
        self._identity = identity
        self._on_refused = on_refused
        self._times: dict[DatasetPath, SnapshotTimes] = {}

    @property
    def freshness(self) -> tuple[DatasetFreshness, ...]:
        """Of each dataset that the client has looked at, or moved something of."""
        return tuple(
            DatasetFreshness(dataset=path, times=times, peer=self._identity)
            for path, times in self._times.items()
            if times != _NOTHING_KNOWN
        )

    @property
    def moves_ranges(self) -> bool:
        return self._side.moves_ranges

    def drop_stale(self) -> bool:
        """Drop what is kept of a listing and too old to be used; whether anything is left."""
        return self._side.drop_stale()

    async def ping(self, message: str) -> str:
        return await self._side.ping(message)

    async def list_filesystems(self) -> list[Filesystem]:
        return await self._side.list_filesystems()

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        return await self._side.list_versions(filesystem)

    async def send_dry(self, request: SendRequest) -> int | None:
        return await self._side.send_dry(request)

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        return await self._side.range_sizes(request)

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        return self._side.send(request)

    async def send_completed(self, request: SendRequest) -> None:
        await self._side.send_completed(request)

    async def settle(self) -> None:
        await self._side.settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        await self._side.receive(request, stream)

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        return await self._side.replication_cursor(filesystem)

    async def marks_of(
        self, filesystems: Collection[DatasetPath]
    ) -> Mapping[DatasetPath, Marks | ZreplError]:
        side = self._side
        if not isinstance(side, TellsMarks):
            raise NotSupported("this side cannot tell what it holds")
        return await side.marks_of(filesystems)

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int | None:
        side = self._side
        if not isinstance(side, MeasuresDestroys):
            raise NotSupported("this side cannot tell what it would free")
        return await side.destroy_size(filesystem, snapshots)

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        results = await self._side.destroy_snapshots(filesystem, snapshots)
        refused = sum(result.error.startswith(FLOOR) for result in results)
        if refused:
            self._on_refused(refused)
        return results

    def _keep(self, filesystems: Sequence[Filesystem]) -> None:
        """Forget what is not there any more."""
        self._times = {each.path: self._known(each.path) for each in filesystems}

    def _known(self, filesystem: DatasetPath) -> SnapshotTimes:
        return self._times.get(filesystem, _NOTHING_KNOWN)
