"""Connections within a simulation: the bytes that would go over a network, in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import memory_stream_pair

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.transport.base import Connection

__all__ = ["MemoryConnection", "Passing", "StreamConnection", "memory_connections"]

Passing: TypeAlias = Callable[[int], Awaitable[None]]
"""Awaited before so many bytes go over the link. ConnectFailed while it is down."""


class StreamConnection(Connection):
    """Any half-closeable stream as one end, without fds. To be closed at once, it needs a `close`."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, identity: str) -> None:
        self.stream = stream
        self.client_identity = identity

    @property
    def read_fd(self) -> None:
        return None

    @property
    def write_fd(self) -> None:
        return None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self.stream.send_eof()


class MemoryConnection(StreamConnection):
    """One end of a simulated link. Where `passing` raises ConnectFailed, it breaks."""

    def __init__(
        self,
        stream: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream],
        identity: str,
        passing: Passing,
    ) -> None:
        super().__init__(stream, identity)
        self._ends = stream.send_stream, stream.receive_stream
        self._passing = passing

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._passing(len(data))
        except ConnectFailed as error:
            raise trio.BrokenResourceError(str(error)) from error
        await super().send_all(data)

    def close(self) -> None:
        for end in self._ends:
            end.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


def memory_connections(
    identities: tuple[str, str], passing: Passing
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two ends with endless buffers; each bears the name of the other, the first the server's."""
    ours, theirs = memory_stream_pair()
    return (
        MemoryConnection(ours, identities[0], passing),
        MemoryConnection(theirs, identities[1], passing),
    )
