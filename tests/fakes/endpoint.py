"""An Endpoint that plays both roles from plain values, and notes what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
import trio.testing

from zrepl_trio.endpoint.protocol import (
    Filesystem,
    ReceiveRequest,
    SendReply,
    SendRequest,
    StreamSource,
)
from zrepl_trio.errors import SourceFailed
from zrepl_trio.pace import Pace
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["BytesSink", "FakeEndpoint", "FakeSource"]


class FakeSource:
    """A StreamSource over any receive stream; `failure` makes `finish` fail with that text."""

    def __init__(self, reader: trio.abc.ReceiveStream, failure: str | None = None) -> None:
        self._reader = reader
        self._failure = failure
        self.finished = False
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.pace = Pace()

    @classmethod
    def of(cls, data: bytes, failure: str | None = None) -> FakeSource:
        """A source of these bytes."""
        reader = trio.testing.MemoryReceiveStream()
        reader.put_data(data)
        reader.put_eof()
        return cls(reader, failure)

    @property
    def reader(self) -> trio.abc.ReceiveStream:
        return self._reader

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        total = 0
        while data := await self._reader.receive_some(65536):
            await sink.send_all(data)
            total += len(data)
        await self.finish()
        return total

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()
        self.finished = True
        if self._failure is not None:
            raise SourceFailed(self._failure)


class BytesSink(trio.abc.SendStream):
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class FakeEndpoint:
    """Answers from its attributes; raises `error` instead where one is set."""

    def __init__(self) -> None:
        self.filesystems: list[Filesystem] = []
        self.versions: dict[str, list[FilesystemVersion]] = {}
        self.stream = b""
        self.stream_failure: str | None = None
        self.error: Exception | None = None
        self.received = b""
        self.asked: list[object] = []
        self.open_sends = 0
        self.cursor: int | None = None
        self.sizes: list[int | None] = []
        self.settled = 0

    def drop_stale(self) -> bool:
        return False

    async def _asked(self, *what: object) -> None:
        self.asked.append(what[0] if len(what) == 1 else what)
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error

    async def ping(self, message: str) -> str:
        await self._asked(message)
        return message

    async def list_filesystems(self) -> list[Filesystem]:
        await self._asked("filesystems")
        return self.filesystems

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        await self._asked(filesystem)
        return self.versions[filesystem]

    @property
    def moves_ranges(self) -> bool:
        return True

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int:
        self.asked.append((filesystem, list(snapshots)))
        await trio.lowlevel.checkpoint()
        return 4711

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        await self._asked(request)
        return self.sizes

    async def send_dry(self, request: SendRequest) -> int | None:
        await self._asked(request)
        return len(self.stream) or None

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        return self._send(request)

    @asynccontextmanager
    async def _send(self, request: SendRequest) -> AsyncIterator[SendReply]:
        await self._asked(request)
        self.open_sends += 1
        try:
            yield SendReply(
                used_resume_token=request.resume_token is not None,
                stream=self.make_source(),
                expected_size=len(self.stream) or None,
            )
        finally:
            self.open_sends -= 1

    def make_source(self) -> StreamSource:
        return FakeSource.of(self.stream, self.stream_failure)

    async def send_completed(self, request: SendRequest) -> None:
        await self._asked(request)

    async def settle(self) -> None:
        await trio.lowlevel.checkpoint()
        self.settled += 1

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        await self._asked(request)
        sink = BytesSink()
        try:
            await stream.copy_into(sink)
        finally:
            self.received = bytes(sink.data)

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        await self._asked(filesystem)
        return self.cursor

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        await self._asked(filesystem, list(snapshots))
        return [DestroyResult(snapshot.name, "") for snapshot in snapshots]
