"""Connections within a simulation: the bytes that would go over a network, in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.transport.base import Connection

__all__ = ["MemoryConnection", "Passing", "StreamConnection", "memory_connections"]

Passing: TypeAlias = Callable[[int], Awaitable[int]]
"""Awaited before so many bytes go over the link, gives how many of them do: where these are fewer, it breaks then.
ConnectFailed while it is down."""


class _WithoutFds(Connection):
    @property
    def read_fd(self) -> None:
        return None

    @property
    def write_fd(self) -> None:
        return None


class StreamConnection(_WithoutFds):
    """Any half-closeable stream as one end, without fds. To be closed at once, it needs a `close`."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, identity: str) -> None:
        self.stream = stream
        self.client_identity = identity

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self.stream.send_eof()


class _Way:
    """One direction of a link, with an endless buffer."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False
        self.deaf = False
        """Whether nobody will read what is put in."""
        self.changed = trio.lowlevel.ParkingLot()

    def put(self, data: bytes | bytearray | memoryview) -> None:
        if self.deaf:
            raise trio.BrokenResourceError("the other end is closed")
        self.buffer += data
        self.changed.unpark_all()

    def end(self) -> None:
        self.ended = True
        self.changed.unpark_all()

    def stop(self) -> None:
        self.deaf = True
        self.buffer.clear()
        self.changed.unpark_all()


class MemoryConnection(_WithoutFds):
    """One end of a simulated link. Where `passing` raises ConnectFailed, or lets less than all pass, it breaks.

    What need not wait gives no other task its turn, as zfs's commands in a simulation: a cycle has a thousand
    sends and receives, mostly of bytes that are there.
    """

    def __init__(self, outgoing: _Way, incoming: _Way, identity: str, passing: Passing) -> None:
        self.client_identity = identity
        self._outgoing = outgoing
        self._incoming = incoming
        self._passing = passing
        self._closed = False
        self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check_sends()
        try:
            passed = await self._passing(len(data))
        except ConnectFailed as error:
            raise trio.BrokenResourceError(str(error)) from error
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_sends()
        if passed < len(data):
            self._outgoing.put(memoryview(data)[:passed])
            raise trio.BrokenResourceError("the link broke")
        self._outgoing.put(data)

    async def wait_send_all_might_not_block(self) -> None:
        self._check_sends()
        await trio.lowlevel.checkpoint_if_cancelled()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._receiving:
            raise trio.BusyResourceError("another task receives")
        way = self._incoming
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while not (way.buffer or way.ended or self._closed):
                await way.changed.park()
        finally:
            self._receiving = False
        if self._closed:
            raise trio.ClosedResourceError
        data = bytes(way.buffer[:max_bytes])
        del way.buffer[:max_bytes]
        return data

    async def send_eof(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        self._outgoing.end()
        await trio.lowlevel.checkpoint_if_cancelled()

    def close(self) -> None:
        self._closed = True
        self._outgoing.end()
        self._incoming.stop()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _check_sends(self) -> None:
        if self._closed or self._outgoing.ended:
            raise trio.ClosedResourceError


def memory_connections(
    identities: tuple[str, str], passing: Passing
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two ends with endless buffers; each bears the name of the other, the first the server's."""
    there, back = _Way(), _Way()
    return (
        MemoryConnection(there, back, identities[0], passing),
        MemoryConnection(back, there, identities[1], passing),
    )
