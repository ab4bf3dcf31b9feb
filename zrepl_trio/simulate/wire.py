"""Connections within a simulation: the bytes that would go over a network, in memory."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import memory_stream_pair

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.transport.base import Connection

__all__ = ["MemoryConnection", "memory_connections"]


class MemoryConnection(Connection):
    """One end. `check` raises ConnectFailed while the link is down, on which this end breaks."""

    def __init__(
        self,
        stream: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream],
        identity: str,
        check: Callable[[], None],
    ) -> None:
        self._stream = stream
        self.client_identity = identity
        self._check = check

    @property
    def read_fd(self) -> None:
        return None

    @property
    def write_fd(self) -> None:
        return None

    def _over(self) -> None:
        try:
            self._check()
        except ConnectFailed as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._over()
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
    identities: tuple[str, str], check: Callable[[], None]
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two ends with endless buffers; each bears the name of the other, the first the server's."""
    ours, theirs = memory_stream_pair()
    return (
        MemoryConnection(ours, identities[0], check),
        MemoryConnection(theirs, identities[1], check),
    )
