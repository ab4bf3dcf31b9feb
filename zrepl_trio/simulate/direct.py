"""The far side's endpoint, called as if a wire were between: what a wire would not carry stays there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from zrepl_trio.endpoint.protocol import (
    Endpoint,
    Filesystem,
    NotSupported,
    ReceiveRequest,
    ResolveRequest,
    Resolves,
    SendReply,
    SendRequest,
    StreamSource,
)
from zrepl_trio.errors import ConnectFailed, RemoteError, ZreplError
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["DirectPeer"]


class _Told:
    """Of the peer's errors a wire carries the text alone."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, ZreplError) and not isinstance(error, ConnectFailed | RemoteError):
            raise RemoteError(str(error)) from error


_TOLD = _Told()


class _Sending:
    """A send of the far side; what fails in the block is the receiver's own."""

    def __init__(self, sending: AbstractAsyncContextManager[SendReply]) -> None:
        self._sending = sending

    async def __aenter__(self) -> SendReply:
        with _TOLD:
            reply = await self._sending.__aenter__()
        return SendReply(used_resume_token=reply.used_resume_token, stream=reply.stream)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # it shields what it must, as if it were entered itself
        return await self._sending.__aexit__(kind, error, traceback)  # noqa: ASYNC102


class DirectPeer:
    """An `Endpoint` that asks another; `reach` gives it, or raises ConnectFailed, before each call."""

    def __init__(self, reach: Callable[[], Endpoint]) -> None:
        self._reach = reach

    @property
    def moves_ranges(self) -> bool:
        return True

    @property
    def lists_in_bulk(self) -> bool:
        return True

    async def ping(self, message: str) -> str:
        return await self._reach().ping(message)

    async def list_filesystems(self) -> list[Filesystem]:
        with _TOLD:
            return await self._reach().list_filesystems()

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        with _TOLD:
            return await self._reach().list_versions(filesystem)

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion] | ZreplError]:
        end = self._reach()
        found: dict[DatasetPath, list[FilesystemVersion] | ZreplError] = {}
        for filesystem in filesystems:
            try:
                found[filesystem] = await end.list_versions(filesystem)
            except ZreplError as error:
                found[filesystem] = RemoteError(str(error))
        return found

    async def send_dry(self, request: SendRequest) -> int | None:
        with _TOLD:
            return await self._reach().send_dry(request)

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        with _TOLD:
            return await self._reach().range_sizes(request)

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        return _Sending(self._reach().send(request))

    async def send_completed(self, request: SendRequest) -> None:
        with _TOLD:
            await self._reach().send_completed(request)

    async def settle(self) -> None:
        with _TOLD:
            await self._reach().settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        with _TOLD:
            await self._reach().receive(request, stream)

    async def resolve(self, request: ResolveRequest) -> str:
        end = self._reach()
        if not isinstance(end, Resolves):
            raise NotSupported(f"{request.filesystem}: the far side is no receiver")
        with _TOLD:
            return await end.resolve(request)

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        with _TOLD:
            return await self._reach().replication_cursor(filesystem)

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        with _TOLD:
            return await self._reach().destroy_snapshots(filesystem, snapshots)
