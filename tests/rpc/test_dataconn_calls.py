"""Sends and receives over data connections: slow ends, cancels, servers that misbehave."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import BytesSink, FakeEndpoint, FakeSource
from tests.rpc import vectors
from tests.rpc.pairs import (
    PairConnecter,
    cancel_in_memory,
    receive_exactly,
    receive_rest,
    tight_pair,
)
from tests.rpc.test_machine import frame
from tests.rpc.test_messages import FULL_SEND, RECEIVE
from zrepl_trio.endpoint.protocol import StreamSource
from zrepl_trio.errors import (
    PeerTimeout,
    RemoteError,
    RemoteProtocolError,
    SourceFailed,
    TransportError,
    ZreplError,
)
from zrepl_trio.rpc import handshake
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection


class SlowSink(BytesSink):
    """A disk that is busy for minutes."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(100)
        await super().send_all(data)


class SlowReceiver(FakeEndpoint):
    async def receive(self, request: object, stream: StreamSource) -> None:
        sink = SlowSink()
        await stream.copy_into(sink)
        self.received = bytes(sink.data)


async def test_heartbeats_hold_a_stream_up_that_its_consumer_holds_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(1_000_000)

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    # two frames into a link that holds nothing: the sender waits for the consumer
    async with open_remote(PairConnecter(serve, tight_pair)) as far, far.send(FULL_SEND) as reply:
        assert await reply.stream.copy_into(SlowSink()) == 1_000_000
    assert trio.current_time() > 300


async def test_heartbeats_hold_a_stream_up_that_the_server_holds_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = SlowReceiver()

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async with open_remote(PairConnecter(serve, tight_pair)) as far:
        await far.receive(RECEIVE, FakeSource.of(bytes(1_000_000)))
    assert endpoint.received == bytes(1_000_000)
    assert trio.current_time() > 300


async def check_cancelled_everywhere(receiving: bool) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(200_000)
    connecters: list[PairConnecter] = []

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async def step() -> None:
        connecters.append(connecter := PairConnecter(serve, tight_pair))
        sink = BytesSink()
        async with open_remote(connecter) as far:
            if receiving:
                await far.receive(RECEIVE, FakeSource.of(bytes(200_000)))
                assert endpoint.received == bytes(200_000)
            else:
                async with far.send(FULL_SEND) as reply:
                    await reply.stream.copy_into(sink)
                assert sink.data == bytes(200_000)

    assert await cancel_in_memory(step) > 20
    assert endpoint.open_sends == 0
    for connecter in connecters:
        assert all(end.closed for end in connecter.connections + connecter.server_ends)


async def test_a_send_cancelled_anywhere_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check_cancelled_everywhere(receiving=False)


async def test_a_receive_cancelled_anywhere_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check_cancelled_everywhere(receiving=True)


class Scripted:
    """A server that greets, then says its part and leaves."""

    def __init__(self, said: bytes, *, silent: bool = False) -> None:
        self._said = said
        self._silent = silent

    async def serve(self, connection: Connection) -> None:
        await connection.send_all(handshake.render() + self._said)
        if self._silent:
            await receive_rest(connection)
        else:
            await connection.send_eof()
            await receive_rest(connection)
        await connection.aclose()


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (b"", TransportError, "ended in the server's header"),
        (vectors.RESET, TransportError, "shutting the connection down"),
        (vectors.SEND_ANSWER, TransportError, "ended in the server's stream"),
        (
            vectors.SEND_ANSWER + frame(5, b"part"),
            TransportError,
            "ended in the server's stream",
        ),
        (vectors.SEND_ANSWER + b"\0\0\0\x05\0\0\0\x09part", TransportError, "ended"),
        (vectors.SEND_ANSWER + frame(5, b"x") + vectors.RESET, TransportError, "shutting"),
        (vectors.SEND_ANSWER + frame(7, b""), RemoteProtocolError, "0x00000007"),
        (vectors.SEND_ANSWER + vectors.FAILED_STREAM, SourceFailed, "stream failed: boom"),
        (vectors.HANDLER_ERROR, RemoteError, "^no such thing$"),
        (frame(3, b"WHAT") + bytes.fromhex(vectors.END), RemoteProtocolError, "WHAT"),
    ],
)
async def test_what_a_server_does_to_our_send(
    said: bytes, error: type[Exception], text: str
) -> None:
    connecter = PairConnecter(Scripted(said).serve)
    with pytest.raises(error, match=text):
        async with open_remote(connecter) as far, far.send(FULL_SEND) as reply:
            await reply.stream.copy_into(BytesSink())
    assert connecter.connections[0].closed


@pytest.mark.parametrize("said", [b"", vectors.SEND_ANSWER, vectors.SEND_ANSWER + frame(5, b"x")])
async def test_a_silent_server_is_left_after_ten_seconds(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    connecter = PairConnecter(Scripted(said, silent=True).serve)
    with pytest.raises(PeerTimeout, match="silent for 10 s"):
        async with open_remote(connecter) as far, far.send(FULL_SEND) as reply:
            await reply.stream.copy_into(BytesSink())
    assert trio.current_time() == 10


class BrokenSink(BytesSink):
    """A `zfs recv` that died."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise trio.BrokenResourceError("recv died")


async def test_a_broken_sink_is_the_sinks_error_and_ends_the_send() -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(3_000_000)

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async with open_remote(PairConnecter(serve, tight_pair)) as far:
        with pytest.raises(trio.BrokenResourceError, match="recv died"):
            async with far.send(FULL_SEND) as reply:
                await reply.stream.copy_into(BrokenSink())
    assert endpoint.open_sends == 0


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (vectors.HANDLER_ERROR + vectors.RESET, RemoteError, "^no such thing$"),
        (vectors.RESET, TransportError, "shutting"),
        (b"", TransportError, "ended in the server's header"),
        (frame(7), RemoteProtocolError, "0x00000007"),
    ],
)
async def test_an_early_answer_ends_our_sending(
    said: bytes, error: type[Exception], text: str, autojump_clock: trio.testing.MockClock
) -> None:
    # the link is full and nobody takes the stream, but for the server's shutdown
    async def serve(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + 64 + 1000)
        await connection.send_all(said)
        await connection.send_eof()
        await trio.sleep(1)
        await connection.aclose()

    connecter = PairConnecter(serve, tight_pair)
    with pytest.raises(error, match=text):
        async with open_remote(connecter) as far:
            await far.receive(RECEIVE, FakeSource.of(bytes(3_000_000)))
    assert trio.current_time() <= 11


async def test_an_early_good_answer_is_enough(autojump_clock: trio.testing.MockClock) -> None:
    # `zfs recv` stops reading at the end record, before our frames have ended
    async def serve(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + 64 + 1000)
        await connection.send_all(vectors.SEND_ANSWER)
        await connection.aclose()

    async with open_remote(PairConnecter(serve, tight_pair)) as far:
        await far.receive(RECEIVE, FakeSource.of(bytes(3_000_000)))


async def test_a_peer_that_takes_nothing_is_a_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + 64 + 1000)
        await trio.sleep(100)
        await connection.aclose()

    with pytest.raises(PeerTimeout):
        async with open_remote(PairConnecter(serve, tight_pair)) as far:
            await far.receive(RECEIVE, FakeSource.of(bytes(3_000_000)))


@given(st.binary(max_size=100), st.integers(0, 3), st.booleans())
def test_no_noise_of_a_server_is_more_than_one_clear_error(
    data: bytes, stage: int, receiving: bool
) -> None:
    lead = [b"", handshake.render(), vectors.SEND_ANSWER, vectors.SEND_ANSWER + frame(5, b"x")]

    async def serve(connection: Connection) -> None:
        if stage:
            await connection.send_all(handshake.render())
        await connection.send_all(lead[stage] + data)
        await connection.send_eof()
        await receive_rest(connection)
        await connection.aclose()

    async def run() -> None:
        with contextlib.suppress(ZreplError):
            async with open_remote(PairConnecter(serve)) as far:
                if receiving:
                    await far.receive(RECEIVE, FakeSource.of(bytes(1000)))
                else:
                    async with far.send(FULL_SEND) as reply:
                        await reply.stream.copy_into(BytesSink())

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


class BusyReceiver(FakeEndpoint):
    """Has taken all in, and is not ready with it."""

    def __init__(self) -> None:
        super().__init__()
        self.came = trio.Event()

    async def receive(self, request: object, stream: StreamSource) -> None:
        await stream.copy_into(BytesSink())
        self.came.set()
        await trio.sleep_forever()


async def test_what_a_client_does_not_wait_for_is_settled_without_it() -> None:
    endpoint = BusyReceiver()

    async def serve(connection: Connection) -> None:
        with contextlib.suppress(TransportError):
            await serve_connection(connection, endpoint)

    async with open_remote(PairConnecter(serve)) as far, trio.open_nursery() as nursery:
        nursery.start_soon(far.receive, RECEIVE, FakeSource.of(bytes(1000)))
        await endpoint.came.wait()
        nursery.cancel_scope.cancel()
    assert endpoint.settled == 1
