"""The far side's endpoint, called as if a wire were between: what a wire would not carry stays there, and what is
logged there is the far side's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeAlias

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

__all__ = ["DirectPeer", "Said"]

Said: TypeAlias = Sequence[tuple[ContextVar[Any], Any]]
"""What the lines of a log bear: structlog's variables, and their values."""


class _Bound:
    """In the block, what is logged bears these."""

    __slots__ = ("_said", "_tokens")

    def __init__(self, said: Said) -> None:
        self._said = said

    def __enter__(self) -> None:
        self._tokens = [(variable, variable.set(value)) for variable, value in self._said]

    def __exit__(self, _kind: object, _error: object, _traceback: object) -> None:
        for variable, token in self._tokens:
            variable.reset(token)


class _Asked(_Bound):
    """A call of the far side: of its errors a wire carries the text alone."""

    __slots__ = ()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, ZreplError) and not isinstance(error, ConnectFailed | RemoteError):
            raise RemoteError(str(error)) from error


class _Sending:
    """A send of the far side; what fails in the block is the receiver's own."""

    def __init__(self, sending: AbstractAsyncContextManager[SendReply], said: Said) -> None:
        self._sending = sending
        self._said = said

    async def __aenter__(self) -> SendReply:
        with _Asked(self._said):
            reply = await self._sending.__aenter__()
        return SendReply(used_resume_token=reply.used_resume_token, stream=reply.stream)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # it shields what it must, as if it were entered itself
        with _Bound(self._said):
            return await self._sending.__aexit__(kind, error, traceback)  # noqa: ASYNC102


class DirectPeer:
    """An `Endpoint` that asks another; `reach` gives it, with what its log lines bear, or raises ConnectFailed,
    before each call."""

    def __init__(self, reach: Callable[[], tuple[Endpoint, Said]]) -> None:
        self._reach = reach

    @property
    def moves_ranges(self) -> bool:
        return True

    @property
    def lists_in_bulk(self) -> bool:
        return True

    async def ping(self, message: str) -> str:
        end, said = self._reach()
        with _Bound(said):
            return await end.ping(message)

    async def list_filesystems(self) -> list[Filesystem]:
        end, said = self._reach()
        with _Asked(said):
            return await end.list_filesystems()

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        end, said = self._reach()
        with _Asked(said):
            return await end.list_versions(filesystem)

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion] | ZreplError]:
        end, said = self._reach()
        found: dict[DatasetPath, list[FilesystemVersion] | ZreplError] = {}
        with _Bound(said):
            for filesystem in filesystems:
                try:
                    found[filesystem] = await end.list_versions(filesystem)
                except ZreplError as error:
                    found[filesystem] = RemoteError(str(error))
        return found

    async def send_dry(self, request: SendRequest) -> int | None:
        end, said = self._reach()
        with _Asked(said):
            return await end.send_dry(request)

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        end, said = self._reach()
        with _Asked(said):
            return await end.range_sizes(request)

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        end, said = self._reach()
        return _Sending(end.send(request), said)

    async def send_completed(self, request: SendRequest) -> None:
        end, said = self._reach()
        with _Asked(said):
            await end.send_completed(request)

    async def settle(self) -> None:
        end, said = self._reach()
        with _Asked(said):
            await end.settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        end, said = self._reach()
        with _Asked(said):
            await end.receive(request, stream)

    async def resolve(self, request: ResolveRequest) -> str:
        end, said = self._reach()
        if not isinstance(end, Resolves):
            raise NotSupported(f"{request.filesystem}: the far side is no receiver")
        with _Asked(said):
            return await end.resolve(request)

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        end, said = self._reach()
        with _Asked(said):
            return await end.replication_cursor(filesystem)

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        end, said = self._reach()
        with _Asked(said):
            return await end.destroy_snapshots(filesystem, snapshots)
