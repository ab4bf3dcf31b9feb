"""The sending side as one client has it, with a note of how fresh that client's copies are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from zrepl_trio.endpoint.abstractions import newest_cursor
from zrepl_trio.endpoint.model import Filesystem, ReceiveRequest, SendRequest
from zrepl_trio.endpoint.protocol import (
    Endpoint,
    MeasuresDestroys,
    NotSupported,
    SendReply,
    StreamSource,
)
from zrepl_trio.endpoint.refusals import FLOOR
from zrepl_trio.replication.freshness import DatasetFreshness, times_of
from zrepl_trio.replication.report import SnapshotTimes
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["ServedPeer"]


class ServedPeer:
    """Passes every call on to `sender`; one object serves all connections of the client `identity`.

    What the client lists, and which steps it confirms, is noted. `cursor_job`: the job whose
    replication cursors tell what was confirmed before; None where other clients move them too.
    `on_refused` is told how many snapshots the client wanted destroyed that the floor keeps.
    """

    def __init__(
        self,
        sender: Endpoint,
        *,
        identity: str,
        cursor_job: str | None,
        on_refused: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._sender = sender
        self._identity = identity
        self._cursor_job = cursor_job
        self._on_refused = on_refused
        self._times: dict[DatasetPath, SnapshotTimes] = {}

    @property
    def freshness(self) -> tuple[DatasetFreshness, ...]:
        """Of each dataset that the client was last offered and has looked at."""
        return tuple(
            DatasetFreshness(dataset=path, times=times, peer=self._identity)
            for path, times in self._times.items()
            if times.newest is not None
        )

    @property
    def moves_ranges(self) -> bool:
        return self._sender.moves_ranges

    async def ping(self, message: str) -> str:
        return await self._sender.ping(message)

    async def list_filesystems(self) -> list[Filesystem]:
        offered = await self._sender.list_filesystems()
        self._times = {
            filesystem.path: self._times.get(filesystem.path, SnapshotTimes())
            for filesystem in offered
        }
        return offered

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        versions = await self._sender.list_versions(filesystem)
        times = replace(self._known(filesystem), newest=times_of(versions, ()).newest)
        cursor = newest_cursor(versions, self._cursor_job) if self._cursor_job else None
        if cursor is not None:
            times = replace(times, replicated=cursor.creation)
        self._times[filesystem] = times
        return versions

    async def send_dry(self, request: SendRequest) -> int | None:
        return await self._sender.send_dry(request)

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        return await self._sender.range_sizes(request)

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        return self._sender.send(request)

    async def send_completed(self, request: SendRequest) -> None:
        await self._sender.send_completed(request)
        known = self._known(request.filesystem)
        self._times[request.filesystem] = replace(known, replicated=request.to.creation)

    async def settle(self) -> None:
        await self._sender.settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        await self._sender.receive(request, stream)

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        return await self._sender.replication_cursor(filesystem)

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int | None:
        sender = self._sender
        if not isinstance(sender, MeasuresDestroys):
            raise NotSupported("this side cannot tell what it would free")
        return await sender.destroy_size(filesystem, snapshots)

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        results = await self._sender.destroy_snapshots(filesystem, snapshots)
        refused = sum(result.error.startswith(FLOOR) for result in results)
        if refused:
            self._on_refused(refused)
        return results

    def _known(self, filesystem: DatasetPath) -> SnapshotTimes:
        return self._times.get(filesystem, SnapshotTimes())
