"""Data connections piece by piece: frames, streams in them, and the heartbeats between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.fakes.endpoint import BytesSink, FakeSource
from tests.rpc import vectors
from tests.rpc.pairs import (
    StreamConnection,
    connection_pair,
    lockstep_pair,
    receive_exactly,
    receive_rest,
)
from tests.rpc.test_machine import frame
from zrepl_trio.endpoint.protocol import StreamSource
from zrepl_trio.errors import (
    LocalProtocolError,
    SourceFailed,
    TransportError,
)
from zrepl_trio.pace import Pace
from zrepl_trio.rpc import payload
from zrepl_trio.rpc.dataconn import DataConn, open_dataconn
from zrepl_trio.rpc.machine import Role
from zrepl_trio.rpc.streams import InboundStream, send_stream


@asynccontextmanager
async def conversation(
    *, endpoint: str = "/v1/send", ended: bool = False
) -> AsyncIterator[tuple[DataConn, StreamConnection]]:
    """A server's side that has taken a request, and the raw client."""
    ours, theirs = connection_pair()
    request = {"/v1/send": vectors.SEND_REQUEST, "/v1/recv": vectors.RECV_HEADER}[endpoint]
    if endpoint == "/v1/recv":
        request += vectors.EMPTY_STRUCTURED
    await theirs.send_all(request)
    if ended:
        await theirs.send_eof()
    async with open_dataconn(ours, Role.SERVER) as data:
        assert (await data.receive_request())[0] == endpoint
        yield data, theirs
        await theirs.aclose()


async def test_a_frame_must_be_filled_exactly() -> None:
    async with conversation() as (data, _):
        await data.send_answer(b"")
        with pytest.raises(LocalProtocolError, match="2 of a frame's 5 bytes not sent"):
            async with data.frame(5) as body:
                await body.send_all(b"abc")
        assert not data.can_refuse
        with pytest.raises(TransportError, match="middle of a frame"):
            await data.send_stream_end()


async def test_bytes_moved_by_other_means_count() -> None:
    async with conversation() as (data, peer):
        await data.send_answer(b"")
        async with data.frame(5) as body:
            await body.connection.send_all(b"he")
            body.moved(2)
            await body.send_all(b"llo")
        await data.send_stream_end()
        expected = vectors.SEND_ANSWER + frame(5, b"hello") + bytes.fromhex(vectors.END)
        assert await receive_exactly(peer, len(expected)) == expected


async def test_no_payload_is_read_ahead() -> None:
    async with conversation(endpoint="/v1/recv") as (data, peer):
        await peer.send_all(vectors.HELLO_STREAM)
        assert await data.next_stream_frame() == 11
        assert await data.connection.receive_some(5) == b"hello"
        data.inbound.parser.payload_moved(5)
        assert data.payload_left == 6
        assert await data.receive_payload(100) == b" world"
        assert await data.next_stream_frame() is None


async def test_messages_and_streams_are_not_mixed_up() -> None:
    async with conversation(endpoint="/v1/recv") as (data, peer):
        await peer.send_all(vectors.HELLO_STREAM)
        with pytest.raises(LocalProtocolError, match="StreamFrame where a message"):
            await data.receive_answer()
    ours, theirs = connection_pair()
    await theirs.send_all(vectors.SEND_REQUEST)
    async with open_dataconn(ours, Role.SERVER) as data:
        with pytest.raises(LocalProtocolError, match="Message where a stream"):
            await data.next_stream_frame()
        await theirs.aclose()


async def test_a_stream_is_moved_once() -> None:
    async with conversation(endpoint="/v1/recv") as (data, peer):
        await peer.send_all(vectors.HELLO_STREAM)
        stream = InboundStream(data)
        with pytest.raises(SourceFailed, match="not read"):
            await stream.finish()
        assert await stream.copy_into(BytesSink()) == 11
        with pytest.raises(LocalProtocolError, match="only once"):
            await stream.copy_into(BytesSink())


@pytest.mark.parametrize("broken", [trio.BrokenResourceError, OSError])
async def test_a_broken_link_is_a_transport_error(broken: type[Exception]) -> None:
    async with conversation() as (data, _):
        connection = data.connection
        assert isinstance(connection, StreamConnection)

        async def fail(*_args: object) -> bytes:
            raise broken("gone")

        connection.send_all = fail  # type: ignore[method-assign,assignment]
        connection.receive_some = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(TransportError, match="broke while sending: gone"):
            await data.send_answer(b"")
        with pytest.raises(TransportError, match="broke while receiving: gone"):
            await data.wait_for_end()


async def test_a_client_that_is_gone_after_the_answer_is_no_error() -> None:
    async with conversation() as (data, peer):
        await data.send_answer(b"")
        await data.send_stream_end()
        await peer.send_all(vectors.RESET)
        await data.wait_for_end()


class Pausing(trio.abc.ReceiveStream):
    """Gives each piece after its pause."""

    def __init__(self, *pieces: tuple[float, bytes]) -> None:
        self._pieces = list(pieces)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._pieces:
            await trio.lowlevel.checkpoint()
            return b""
        pause, data = self._pieces[0]
        await trio.sleep(pause)
        cut = max_bytes or len(data)
        self._pieces[0] = (0, data[cut:])
        if not data[cut:]:
            del self._pieces[0]
        return data[:cut]

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def lengths_of_frames(reader: trio.abc.ReceiveStream) -> list[int]:
    async with conversation() as (data, peer):
        await data.send_answer(b"")
        moved: list[int] = []
        await payload.frames_out(reader, data, moved.append, Pace())
        await data.send_stream_end()
        assert await receive_exactly(peer, len(vectors.SEND_ANSWER)) == vectors.SEND_ANSWER
        assert await receive_exactly(peer, 8) != b""
        return moved


async def test_a_busy_source_fills_its_frames(autojump_clock: trio.testing.MockClock) -> None:
    reader = Pausing(*[(0.0001, bytes(65_536))] * 20)
    assert await lengths_of_frames(reader) == [524_288, 524_288, 262_144]


async def test_a_source_that_pauses_has_its_bytes_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await lengths_of_frames(Pausing((0, b"abc"), (60, b"de"), (0, b"f"))) == [3, 3]


class Broken(trio.abc.ReceiveStream):
    """A pipe that fails."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        raise OSError("input/output error")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Pipeless(FakeSource):
    """A source that can only be copied, as one that comes from another connection."""

    @property
    def reader(self) -> None:  # type: ignore[override]
        return None

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        total = 0
        while data := await super().reader.receive_some(600_000):
            await sink.wait_send_all_might_not_block()
            await sink.send_all(data)
            total += len(data)
        await sink.aclose()
        await self.finish()
        return total


@pytest.mark.parametrize(
    ("source", "expected", "failure"),
    [
        (FakeSource.of(b"hello world"), vectors.HELLO_STREAM, None),
        (Pipeless.of(b"hello world"), vectors.HELLO_STREAM, None),
        (FakeSource.of(b"partial", "boom"), vectors.FAILED_STREAM, "boom"),
        (Pipeless.of(b"partial", "boom"), vectors.FAILED_STREAM, "boom"),
        (
            FakeSource(Broken()),
            frame(1 << 16, b"reading the stream failed: input/output error")
            + bytes.fromhex(vectors.END),
            "input/output error",
        ),
    ],
    ids=["pipe", "no pipe", "pipe fails", "no pipe fails", "read error"],
)
async def test_a_source_becomes_frames_and_a_true_end(
    source: StreamSource, expected: bytes, failure: str | None
) -> None:
    async with conversation() as (data, peer):
        await data.send_answer(b"")
        if failure is None:
            assert await send_stream(data, source) == 11
        else:
            with pytest.raises(SourceFailed, match=failure):
                await send_stream(data, source)
        wire = vectors.SEND_ANSWER + expected
        assert await receive_exactly(peer, len(wire)) == wire


async def test_a_source_without_pipe_is_cut_into_frames_of_zrepls_size() -> None:
    async with conversation() as (data, peer):
        await data.send_answer(b"")
        assert await send_stream(data, Pipeless.of(bytes(600_000))) == 600_000
        await receive_exactly(peer, len(vectors.SEND_ANSWER))
        assert await receive_exactly(peer, 8) == bytes.fromhex("0000000500080000")


async def test_after_a_torn_frame_nothing_more_is_said() -> None:
    ours, theirs = lockstep_pair()

    async def serve() -> None:
        async with open_dataconn(ours, Role.SERVER) as data:
            await data.receive_request()
            await data.send_answer(b"")
            async with data.frame(500_000) as body:
                await body.send_all(bytes(500_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await theirs.send_all(vectors.SEND_REQUEST)
        await receive_exactly(theirs, len(vectors.SEND_ANSWER) + 8 + 1000)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            rest = await receive_rest(theirs)
    assert vectors.RESET not in rest
    assert rest == bytes(len(rest))
    assert ours.closed


class HangingWrites(StreamConnection):
    """Says that it can write, and can't."""

    hang = False

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.hang:
            await trio.sleep_forever()
        await super().send_all(data)


async def test_a_heartbeat_that_hangs_ends_the_beating_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a, theirs = connection_pair()
    ours = HangingWrites(a.stream)
    await theirs.send_all(vectors.SEND_REQUEST)
    async with open_dataconn(ours, Role.SERVER) as data:
        await data.receive_request()
        ours.hang = True
        await trio.sleep(30)
        with pytest.raises(TransportError, match="middle of a frame"):
            await data.send_answer(b"")
    assert trio.current_time() == 30
    assert ours.closed
