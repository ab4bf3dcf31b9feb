"""A bandwidth limit on a data connection: kept by either side, in both ways of moving the bytes,
with frames that are let before they are announced, and no peer that thinks us dead."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.endpoint import BytesSink, FakeEndpoint, FakeSource
from tests.rpc.pairs import PairConnecter, connection_pair, receive_exactly, tight_pair
from tests.rpc.test_messages import FULL_SEND
from tests.rpc.test_splice import DATA, _drain, _link, _pipe, _Source
from zrepl_trio.endpoint.protocol import SendReply, SendRequest, StreamSource
from zrepl_trio.pace import Pace, Throttle
from zrepl_trio.rpc.client import RemoteEndpoint, open_remote
from zrepl_trio.rpc.dataconn import open_dataconn
from zrepl_trio.rpc.frames import HEADER_BYTES, FrameType, decode_header
from zrepl_trio.rpc.machine import Role
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.rpc.streams import InboundStream, send_stream
from zrepl_trio.transport.base import Connection

SIZE = 100_000
RATE = 2_000


class Limited(FakeEndpoint):
    """Sends at most at a rate."""

    def __init__(self, throttle: Throttle | None) -> None:
        super().__init__()
        self.stream = bytes(SIZE)
        self._throttle = throttle

    def make_source(self) -> StreamSource:
        source = FakeSource.of(self.stream)
        source.pace.keep_to(self._throttle)
        return source


@asynccontextmanager
async def far_end(endpoint: FakeEndpoint) -> AsyncIterator[RemoteEndpoint]:
    """The endpoint over a link that holds little, so that a frame cannot hide in it."""

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async with open_remote(PairConnecter(serve, tight_pair)) as far:
        yield far


async def fetch(far: RemoteEndpoint, limit: Throttle | None = None) -> int:
    """Take a stream as a pull's receiver does."""
    sink = BytesSink()
    reply: SendReply
    request: SendRequest = FULL_SEND
    async with far.send(request) as reply:
        reply.stream.pace.keep_to(limit)
        await reply.stream.copy_into(sink)
    return len(sink.data)


async def test_a_senders_limit_is_kept_by_all_its_streams_together(
    autojump_clock: MockClock,
) -> None:
    async with far_end(Limited(Throttle(RATE, 1))) as far, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(fetch, far)
    assert trio.current_time() == pytest.approx(3 * SIZE / RATE, rel=0.01)


async def test_a_receivers_limit_is_kept_and_nobody_takes_the_other_for_dead(
    autojump_clock: MockClock,
) -> None:
    limit = Throttle(RATE, 1)
    async with far_end(Limited(None)) as far, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(fetch, far, limit)
    assert trio.current_time() == pytest.approx(3 * SIZE / RATE, rel=0.01)


@pytest.mark.parametrize("sending", [True, False])
async def test_a_limit_of_a_byte_a_second_moves_a_byte_a_second(
    sending: bool, autojump_clock: MockClock
) -> None:
    limit = Throttle(1, 1)
    endpoint = Limited(limit if sending else None)
    endpoint.stream = bytes(100)
    async with far_end(endpoint) as far:
        assert await fetch(far, None if sending else limit) == 100
    assert trio.current_time() == pytest.approx(100, abs=2)


async def test_heartbeats_go_out_between_frames_that_wait_for_the_limit(
    autojump_clock: MockClock,
) -> None:
    """A hundred streams share a kilobyte a second: each is let a frame every 100 s."""
    ours, theirs = connection_pair()
    throttle = Throttle(1000, 1)
    pace = Pace(throttle)

    async def others() -> None:
        while True:
            await Pace(throttle).take(1 << 20)

    async with trio.open_nursery() as nursery:
        for _ in range(99):
            nursery.start_soon(others)
        async with open_dataconn(ours, Role.CLIENT) as data:
            source = FakeSource.of(bytes(3000))
            source.pace = pace
            await data.send_request("/v1/recv", b"")
            await send_stream(data, source)
            await theirs.send_eof()
        nursery.cancel_scope.cancel()
    said: list[FrameType] = []
    while header := await receive_exactly(theirs, HEADER_BYTES):
        frame = decode_header(header)
        said.append(frame.type)
        if frame.type is FrameType.ZFS_STREAM:
            assert frame.length <= 1000
        await receive_exactly(theirs, frame.length)
    assert said.count(FrameType.ZFS_STREAM) == 3
    # one every 5 s while nothing else is said
    assert said.count(FrameType.HEARTBEAT) >= 3 * 19


class Counting(Pace):
    """Lets so many bytes at once, without any wait, and keeps count."""

    def __init__(self, grant: int) -> None:
        super().__init__()
        self.grant = grant
        self.let = 0
        self.takes = 0

    async def take(self, wanted: int) -> int:
        await trio.lowlevel.checkpoint()
        taken = min(wanted, self.grant)
        self.let += taken
        self.takes += 1
        return taken

    def give_back(self, count: int) -> None:
        assert 0 <= count <= self.grant
        self.let -= count


@pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")
@pytest.mark.parametrize("size", [1000, 30_000, 1 << 30])
async def test_spliced_bytes_are_let_before_they_are_announced_and_before_they_are_taken(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DATA if size > 1000 else DATA[:200_000]
    feed, write = _pipe()
    out_reader, sink = _pipe()
    got = bytearray()
    taken: list[int] = []
    announced: list[int] = []
    source = _Source(feed, pace=Counting(size))
    sender = source.pace
    assert isinstance(sender, Counting)
    receiver = Counting(size)

    async def produce() -> None:
        async with write:
            await write.send_all(data)

    async with _link() as (client, server), feed, out_reader, trio.open_nursery() as nursery:
        real = client.announce

        def announce(body: object, length: int) -> bytes:
            announced.append(length)
            assert sum(announced) <= sender.let
            return real(body, length)  # type: ignore[arg-type]

        monkeypatch.setattr(client, "announce", announce)
        nursery.start_soon(produce)
        nursery.start_soon(send_stream, client, source)
        nursery.start_soon(_drain, out_reader, got)
        inbound = InboundStream(server)
        inbound.on_progress = taken.append
        inbound.pace = receiver
        async with sink:
            assert await inbound.copy_into(sink) == len(data)
    assert got == data
    assert announced
    assert max(announced) <= size
    assert max(taken) <= size
    # what was let and not given back is what moved
    assert sender.let == receiver.let == len(data)
    if size < len(data):
        assert sender.takes >= len(data) // size


@pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")
async def test_a_spliced_stream_that_waits_for_its_limit_lets_heartbeats_through() -> None:
    feed, write = _pipe()
    waiting = trio.Event()

    class Closed(Pace):
        async def take(self, wanted: int) -> int:
            waiting.set()
            await trio.sleep_forever()
            raise AssertionError

    async with _link() as (client, _server), feed, write:
        await write.send_all(b"held back")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_stream, client, _Source(feed, pace=Closed()))
            await waiting.wait()
            assert not client._send_lock.locked()
            assert not client._torn
            nursery.cancel_scope.cancel()
