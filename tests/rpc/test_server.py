"""The serving side, byte by byte: what zrepl's own server was seen to do, and what we add."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc import vectors
from tests.rpc.pairs import (
    StreamConnection,
    connection_pair,
    greet,
    lockstep_pair,
    receive_exactly,
    receive_rest,
)
from tests.rpc.test_machine import frame
from tests.rpc.test_messages import FULL_SEND, RECEIVE
from zrepl_trio.errors import Refused, ZfsError
from zrepl_trio.rpc import handshake, label, messages
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.label import Label
from zrepl_trio.rpc.machine import Exchange, Role
from zrepl_trio.rpc.server import serve_connection

GREETING = handshake.render() + label.render(Label.DATA)
SEND = Exchange(Role.CLIENT).outbound.request("/v1/send", messages.encode_send(FULL_SEND))
RECV = Exchange(Role.CLIENT).outbound.request("/v1/recv", messages.encode_receive(RECEIVE))
END = bytes.fromhex(vectors.END)


@dataclass
class Client:
    """A raw client and what the server logged."""

    connection: StreamConnection
    log: list[structlog.typing.EventDict] = field(default_factory=list)

    async def say(self, data: bytes) -> None:
        await self.connection.send_all(data)

    async def leave(self) -> None:
        await self.connection.send_eof()

    async def hear(self, count: int) -> bytes:
        return await receive_exactly(self.connection, count)

    async def hear_rest(self) -> bytes:
        return await receive_rest(self.connection)

    def warning(self) -> str:
        """The one line that the server logged."""
        (line,) = self.log
        assert line["log_level"] == "warning"
        assert line["client_identity"] == "client-1"
        return f"{line['event']}: {line.get('reason') or line.get('error')}"


@asynccontextmanager
async def client(
    endpoint: FakeEndpoint | None = None,
    *,
    greeted: bool = True,
    pair: Callable[[], tuple[StreamConnection, StreamConnection]] = connection_pair,
) -> AsyncIterator[Client]:
    """A client of a server whose end is waited for after the block."""
    ours, theirs = pair()
    with structlog.testing.capture_logs() as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, theirs, endpoint or FakeEndpoint())
            if greeted:
                await greet(ours)
            yield Client(ours, log)
            await ours.aclose()
    assert theirs.closed


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (vectors.PING_REQUEST, vectors.PING_ANSWER),
        (SEND, vectors.SEND_ANSWER + vectors.HELLO_STREAM),
        (RECV + vectors.HELLO_STREAM, vectors.SEND_ANSWER),
        (RECV + END, vectors.SEND_ANSWER),
        (
            frame(1, b"/v1/") + frame(1, b"ping") + vectors.PING_REQUEST[16:],
            vectors.PING_ANSWER,
        ),
        (
            vectors.PING_REQUEST[:24] + frame(1 << 24, b"abc") + vectors.PING_REQUEST[24:],
            vectors.PING_ANSWER,
        ),
    ],
    ids=["ping", "send", "recv", "empty recv", "name in two frames", "heartbeat with payload"],
)
async def test_requests_are_answered_byte_for_byte(request_: bytes, answer: bytes) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = b"hello world"
    async with client(endpoint) as peer:
        await peer.say(request_)
        got = await peer.hear_rest()
        await peer.say(vectors.RESET)
    if request_ is SEND:
        # the fake knows the size, zrepl leaves it out
        got = got.replace(frame(4, b"\x10\x0b"), b"")
    assert got == answer + vectors.RESET
    assert peer.log == []


async def test_a_client_may_write_everything_back_to_back() -> None:
    async with client(greeted=False) as peer:
        await peer.say(GREETING + vectors.PING_REQUEST)
        assert await peer.hear_rest() == OUR_BANNER + vectors.PING_ANSWER + vectors.RESET


@pytest.mark.parametrize("name", ["/v1/ping", "/v1/send", "/v1/recv"])
async def test_a_handlers_error_is_told_and_logged(name: str) -> None:
    endpoint = FakeEndpoint()
    endpoint.error = ZfsError("no such thing")
    request_ = {"/v1/ping": vectors.PING_REQUEST, "/v1/send": SEND, "/v1/recv": RECV}[name]
    async with client(endpoint) as peer:
        await peer.say(request_)
        assert await peer.hear_rest() == vectors.HANDLER_ERROR + vectors.RESET
    assert peer.warning() == "request failed: no such thing"
    assert peer.log[0]["request"] == name


async def test_a_handlers_bug_is_logged_with_its_traceback_and_not_told() -> None:
    endpoint = FakeEndpoint()
    endpoint.error = ValueError("secret")
    async with client(endpoint) as peer:
        await peer.say(vectors.PING_REQUEST)
        answer = await peer.hear_rest()
    assert b"internal error on the serving side" in answer
    assert b"secret" not in answer
    (line,) = peer.log
    assert (line["log_level"], line["exc_info"]) == ("error", endpoint.error)


async def test_a_group_of_handlers_errors_is_told_as_text() -> None:
    endpoint = FakeEndpoint()
    endpoint.error = ExceptionGroup("", [Refused("one"), ExceptionGroup("", [ZfsError("two")])])
    async with client(endpoint) as peer:
        await peer.say(vectors.PING_REQUEST)
        assert b"HANDLER ERROR:\none\ntwo" in await peer.hear_rest()
    assert peer.warning() == "request failed: one\ntwo"


async def test_a_failed_source_has_an_error_trailer() -> None:
    endpoint = FakeEndpoint()
    endpoint.stream, endpoint.stream_failure = b"partial", "boom"
    async with client(endpoint) as peer:
        await peer.say(SEND)
        got = await peer.hear_rest()
    assert got.endswith(vectors.FAILED_STREAM + vectors.RESET)
    assert endpoint.open_sends == 0
    assert peer.warning() == "request failed: boom"


async def test_an_unknown_endpoint_is_refused_by_zrepls_words() -> None:
    async with client() as peer:
        await peer.say(frame(1, b"/v2/x") + END + END)
        assert await peer.hear_rest() == vectors.UNKNOWN_ENDPOINT + vectors.RESET
    assert "requested endpoint does not exist" in peer.warning()


WRONG = {
    "first frame of type 2": (frame(2, b"x"), "REQ_STRUCTURED"),
    "unknown heartbeat type": (frame(0x0200_0000), "0x02000000"),
    "unknown stream type": (frame(0x0004_0000), "0x00040000"),
    "unparsable request": (frame(1, b"/v1/ping") + END + frame(2, b"\xff\xff") + END, "PingReq"),
    "oversize message": (b"\0\0\0\x01\xff\xff\xff\xff", "4294967295 bytes"),
    "reset before the request": (vectors.RESET, "shutting"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_frames_end_the_connection_without_an_answer(name: str) -> None:
    data, said = WRONG[name]
    async with client() as peer:
        await peer.say(data)
        assert await peer.hear_rest() == vectors.RESET
    assert said in peer.warning()


async def test_a_bad_name_is_refused_and_logged() -> None:
    request_ = SEND.replace(b"pool/a", b"pool/@")
    async with client() as peer:
        await peer.say(request_)
        answer = await peer.hear_rest()
    assert b"HANDLER ERROR:\ndataset path 'pool/@'" in answer
    assert "pool/@" in peer.warning()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (vectors.FAILED_STREAM, "the sending side's stream failed: boom"),
        (frame(5, b"part"), "the connection ended in the client's stream"),
        (b"\0\0\0\x05\0\0\0\x09part", "the connection ended in the client's stream"),
    ],
    ids=["error trailer", "half-close after a frame", "half-close in a frame"],
)
async def test_a_cut_stream_is_the_handlers_error_and_told(stream: bytes, said: str) -> None:
    endpoint = FakeEndpoint()
    async with client(endpoint) as peer:
        await peer.say(RECV + stream)
        await peer.leave()
        answer = await peer.hear_rest()
    assert f"HANDLER ERROR:\n{said}".encode() in answer
    assert endpoint.received[:4] == b"part"
    assert said in peer.warning()


async def test_a_wrong_frame_in_the_stream_has_no_answer() -> None:
    async with client() as peer:
        await peer.say(RECV + frame(5, b"part") + frame(2, b"x"))
        assert await peer.hear_rest() == vectors.RESET
    assert "REQ_STRUCTURED" in peer.warning()


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (b"", "closed the connection after 0 of 11"),
        (b"SSH-2.0-OpenSSH", "not a zrepl peer"),
        (OLD := handshake.render(6), "version 6, this side speaks 7"),
        (b"0000099999 " + b"x" * 99_999, "over 65536"),
        (handshake.render(), "closed the connection after 0 of 64"),
        (handshake.render() + label.render(Label.DATA)[:63], "after 63 of 64"),
        (handshake.render() + b"zrepl_other".ljust(64, b"\0"), "unknown connection label"),
    ],
    ids=["nothing", "ssh", "old version", "long banner", "no label", "cut label", "bad label"],
)
async def test_a_bad_greeting_ends_the_connection(said: bytes, logged: str) -> None:
    async with client(greeted=False) as peer:
        await peer.say(said)
        await peer.leave()
        assert await peer.hear_rest() == OUR_BANNER
    assert logged in peer.warning()


@pytest.mark.parametrize("said", [b"", OLD[:30], handshake.render(), GREETING[:100]])
async def test_silence_in_the_greeting_ends_after_ten_seconds(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with client(greeted=False) as peer:
        await peer.say(said)
        assert await peer.hear_rest() == OUR_BANNER
        assert trio.current_time() == 10
    assert "took longer than 10 s" in peer.warning()


@pytest.mark.parametrize("said", [b"", frame(1, b"/v1/ping"), b"\0\0"])
async def test_a_silent_client_gets_heartbeats_then_a_reset(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with client() as peer:
        await peer.say(said)
        assert await peer.hear(8) == vectors.HEARTBEAT
        assert trio.current_time() == 5
        # the second heartbeat and the limit are due at the same instant
        assert await peer.hear_rest() in {vectors.HEARTBEAT + vectors.RESET, vectors.RESET}
        assert trio.current_time() == 10
    assert "silent for 10 s" in peer.warning()


async def test_a_client_that_never_closes_is_left_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client() as peer:
        await peer.say(vectors.PING_REQUEST)
        await peer.hear_rest()
        await trio.sleep(30)
        with pytest.raises(trio.BrokenResourceError):
            await peer.say(vectors.HEARTBEAT)


class SlowEndpoint(FakeEndpoint):
    """Takes about a minute before it answers."""

    async def ping(self, message: str) -> str:
        await trio.sleep(58)
        return message


async def test_a_slow_handler_does_not_stop_the_heartbeats(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client(SlowEndpoint()) as peer:
        await peer.say(vectors.PING_REQUEST)
        for beat in range(1, 12):
            assert await peer.hear(8) == vectors.HEARTBEAT
            assert trio.current_time() == beat * 5
            await peer.say(vectors.HEARTBEAT)
        assert await peer.hear_rest() == vectors.PING_ANSWER + vectors.RESET
        assert trio.current_time() == 58
    assert peer.log == []


@pytest.mark.parametrize(
    ("bye", "said"),
    [
        (vectors.RESET, "the peer is shutting the connection down"),
        (b"", "the peer closed the connection"),
        (vectors.PING_REQUEST, "REQ_HEADER from the client in its end"),
    ],
)
async def test_a_client_that_leaves_cancels_its_handler(
    bye: bytes, said: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with client(SlowEndpoint()) as peer:
        await peer.say(vectors.PING_REQUEST + bye)
        await peer.leave()
        await peer.hear_rest()
        assert trio.current_time() == 0
    assert said in peer.warning()


async def test_a_client_that_falls_silent_cancels_its_handler(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client(SlowEndpoint()) as peer:
        await peer.say(vectors.PING_REQUEST)
        await trio.sleep(11)
    assert "silent for 10 s" in peer.warning()


async def test_a_stalled_write_ends_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(1_000_000)
    async with client(endpoint, pair=lockstep_pair) as peer:
        await peer.say(SEND)
        await peer.hear(8 + 11 + 8)
        # keeps the reading side of the server content, but never as a heartbeat
        await trio.sleep(9)
        assert peer.log == []
        await trio.sleep(2)
        assert endpoint.open_sends == 0
        await trio.sleep(20)
    assert "10 s" in peer.warning()


async def test_heartbeats_alone_hold_a_stalled_write_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(1_000_000)
    async with client(endpoint, pair=lockstep_pair) as peer:
        await peer.say(SEND)
        for _ in range(12):
            await trio.sleep(9)
            await peer.say(vectors.HEARTBEAT)
        assert endpoint.open_sends == 1
        await trio.sleep(11)
        assert endpoint.open_sends == 0
    assert peer.warning()


class EarlyEndpoint(FakeEndpoint):
    """Answers a receive after one piece of it."""

    async def receive(self, request: object, stream: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Refused("disk full")


async def test_a_receive_may_be_refused_before_its_stream_has_come() -> None:
    async with client(EarlyEndpoint()) as peer:
        await peer.say(RECV + frame(5, b"part"))
        answer = await peer.hear_rest()
        assert b"HANDLER ERROR:\ndisk full" in answer
        # what was under way is taken and thrown away
        await peer.say(frame(5, bytes(500_000)))
    assert peer.warning() == "request failed: disk full"


async def test_a_cancelled_server_says_goodbye_and_closes() -> None:
    ours, theirs = connection_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, SlowEndpoint())
        await greet(ours)
        await ours.send_all(vectors.PING_REQUEST)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await receive_rest(ours) == vectors.RESET
            await ours.aclose()
    assert theirs.closed


async def test_a_link_that_breaks_in_the_greeting_is_logged() -> None:
    ours, theirs = connection_pair()

    async def fail(data: object) -> None:
        raise trio.BrokenResourceError("gone")

    theirs.send_all = fail  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as log:
        await serve_connection(theirs, FakeEndpoint())
    await ours.aclose()
    assert [line["reason"] for line in log] == [
        "the connection broke during the version handshake: gone"
    ]


@given(st.binary(max_size=120), st.integers(0, 3), st.sampled_from(list(Label)))
def test_no_noise_raises_or_logs_more_than_a_line(data: bytes, stage: int, purpose: Label) -> None:
    lead = [b"", handshake.render(), GREETING[:67] + label.render(purpose), GREETING + RECV][stage]

    async def run() -> None:
        async with client(greeted=False) as peer:
            await peer.say(lead + data)
            await peer.leave()
            await peer.hear_rest()
        assert len(peer.log) <= 1
        assert all(line["log_level"] == "warning" for line in peer.log)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
