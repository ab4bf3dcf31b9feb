"""Connections in memory, and what a test does with their two ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
import trio.testing

from tests.support.resources import cancelled_after
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.rpc import handshake, label
from zrepl_trio.rpc.client import RemoteEndpoint, open_remote
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.label import Label
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.simulate import wire
from zrepl_trio.transport.base import Connection


class StreamConnection(wire.StreamConnection):
    """Any half-closeable stream as a Connection without fds."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, identity: str = "client-1") -> None:
        super().__init__(stream, identity)
        self.closed = False

    def close(self) -> None:
        raise AssertionError("whoever serves it in memory awaits aclose")

    async def aclose(self) -> None:
        self.closed = True
        await self.stream.aclose()


def connection_pair() -> tuple[StreamConnection, StreamConnection]:
    """Two ends with endless buffers."""
    ours, theirs = trio.testing.memory_stream_pair()
    return StreamConnection(ours), StreamConnection(theirs)


def lockstep_pair() -> tuple[StreamConnection, StreamConnection]:
    """Two ends without any buffer: a write ends when its bytes have been read."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    return StreamConnection(ours), StreamConnection(theirs)


PIPE_BYTES = 65_536


def tight_pair() -> tuple[StreamConnection, StreamConnection]:
    """Two ends whose directions hold PIPE_BYTES each; more makes the writer wait."""
    there, back = _Pipe(PIPE_BYTES), _Pipe(PIPE_BYTES)
    return (
        StreamConnection(trio.StapledStream(_PipeSend(there), _PipeReceive(back))),
        StreamConnection(trio.StapledStream(_PipeSend(back), _PipeReceive(there))),
    )


class _Pipe:
    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()
        self.ended = False
        self.abandoned = False
        self.changed = trio.Event()

    def change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class _PipeSend(trio.abc.SendStream):
    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        await trio.lowlevel.checkpoint()
        while left:
            await self.wait_send_all_might_not_block()
            room = self._pipe.size - len(self._pipe.data)
            self._pipe.data += left[:room]
            left = left[room:]
            self._pipe.change()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self._pipe.data) >= self._pipe.size and not self._pipe.abandoned:
            await self._pipe.changed.wait()
        if self._pipe.ended:
            raise trio.ClosedResourceError
        if self._pipe.abandoned:
            raise trio.BrokenResourceError

    async def aclose(self) -> None:
        self._pipe.ended = True
        self._pipe.change()
        await trio.lowlevel.checkpoint()


class _PipeReceive(trio.abc.ReceiveStream):
    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._pipe.data:
            if self._pipe.abandoned:
                raise trio.ClosedResourceError
            if self._pipe.ended:
                return b""
            await self._pipe.changed.wait()
        data = bytes(self._pipe.data[:max_bytes])
        del self._pipe.data[: len(data)]
        self._pipe.change()
        return data

    async def aclose(self) -> None:
        self._pipe.abandoned = True
        self._pipe.change()
        await trio.lowlevel.checkpoint()


class PairConnecter:
    """Each connect is served by `serve`, in a task of its own that ends with the connection."""

    peer = "memory"

    def __init__(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        make_pair: Callable[[], tuple[StreamConnection, StreamConnection]] = connection_pair,
    ) -> None:
        self._serve = serve
        self._make_pair = make_pair
        self.connections: list[StreamConnection] = []
        self.server_ends: list[StreamConnection] = []

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        ours, theirs = self._make_pair()
        self.connections.append(ours)
        self.server_ends.append(theirs)
        nursery_error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, theirs)
                try:
                    yield ours
                except BaseException as error:
                    nursery_error = error
                    raise
                finally:
                    with trio.CancelScope(shield=True):
                        await ours.aclose()
        except BaseExceptionGroup:
            if nursery_error is not None and not isinstance(nursery_error, trio.Cancelled):
                raise nursery_error from None
            raise


@asynccontextmanager
async def remote(endpoint: Endpoint) -> AsyncIterator[RemoteEndpoint]:
    """`endpoint` as seen through the whole wire, in memory."""

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async with open_remote(PairConnecter(serve)) as far:
        yield far


async def greet(connection: Connection, purpose: Label = Label.DATA) -> None:
    """A client's greeting, written back to back; leaves the server's banner read."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_all, handshake.render() + label.render(purpose))
        assert await receive_exactly(connection, len(OUR_BANNER)) == OUR_BANNER


async def receive_exactly(connection: Connection, count: int) -> bytes:
    """Exactly so many bytes, or fewer at EOF."""
    data = b""
    while len(data) < count:
        part = await connection.receive_some(count - len(data))
        if not part:
            break
        data += part
    return data


async def receive_rest(connection: Connection) -> bytes:
    """All that comes until EOF."""
    data = b""
    while part := await connection.receive_some(65536):
        data += part
    return data


async def cancel_in_memory(operation: Callable[[], Awaitable[object]]) -> int:
    """Runs `operation` cancelled after its 1st, 2nd, 3rd... step of any task, until it ends
    uncancelled; the number of runs. For operations without fds and children: those are not
    looked at."""
    for step in range(1, 2000):
        if not await cancelled_after(step, operation):
            return step
    raise AssertionError("never done")
