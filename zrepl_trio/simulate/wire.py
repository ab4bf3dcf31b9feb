"""Connections within a simulation: the bytes that would go over a network, in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import memory_stream_pair

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.transport.base import Connection

__all__ = ["MemoryConnection", "Passing", "memory_connections"]

Passing: TypeAlias = Callable[[int], Awaitable[None]]
"""Awaited before so many bytes go over the link. ConnectFailed while it is down."""


class MemoryConnection(Connection):
    """One end. Where `passing` raises ConnectFailed, it breaks."""

    def __init__(
        self,
        stream: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream],
        identity: str,
        passing: Passing,
    ) -> None:
        self._stream = stream
        self.client_identity = identity
        self._passing = passing

    @property
    def read_fd(self) -> None:
        return None

    @property
    def write_fd(self) -> None:
        return None

    async def _over(self, count: int) -> None:
        try:
            await self._passing(count)
        except ConnectFailed as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._over(len(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()

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
