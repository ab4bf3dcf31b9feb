from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rpc import vectors
from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc import frames, machine
from zrepl_trio.rpc.frames import FrameType
from zrepl_trio.rpc.machine import (
    Event,
    Exchange,
    Heartbeat,
    Message,
    Reset,
    Role,
    State,
    StreamEnd,
    StreamFailed,
    StreamFrame,
    Switch,
)


@dataclass(frozen=True)
class Payload:
    """Stream bytes that a driver would have moved."""

    data: bytes


def server(endpoint: str = "") -> Exchange:
    exchange = Exchange(Role.SERVER)
    exchange.endpoint = endpoint
    return exchange


def client(endpoint: str = "") -> Exchange:
    exchange = Exchange(Role.CLIENT)
    exchange.endpoint = endpoint
    return exchange


def events(exchange: Exchange) -> list[Event | Payload]:
    """All that is here already, stream bytes included."""
    found: list[Event | Payload] = []
    parser = exchange.inbound.parser
    while True:
        if exchange.inbound.state is State.STREAM and parser.payload_left:
            data = parser.take_payload(parser.payload_left)
            if data:
                found.append(Payload(data))
            if parser.payload_left:
                return found
        event = exchange.inbound.next_event()
        if event is None:
            return found
        found.append(event)


def feed(exchange: Exchange, data: bytes, piece: int = 0) -> list[Event | Payload]:
    found = []
    for at in range(0, len(data), piece or max(len(data), 1)):
        exchange.inbound.parser.receive_data(data[at : at + piece] if piece else data)
        found += events(exchange)
    return merged(found)


def merged(found: list[Event | Payload]) -> list[Event | Payload]:
    """Stream bytes put together again, however they were cut."""
    result: list[Event | Payload] = []
    for event in found:
        if isinstance(event, Payload) and result and isinstance(result[-1], Payload):
            result[-1] = Payload(result[-1].data + event.data)
        else:
            result.append(event)
    return result


PING_EVENTS: list[Event | Payload] = [
    Message(FrameType.REQ_HEADER, b"/v1/ping"),
    Message(FrameType.REQ_STRUCTURED, bytes.fromhex("0a026869")),
]
HELLO_EVENTS: list[Event | Payload] = [StreamFrame(11), Payload(b"hello world"), StreamEnd()]
FAILED_EVENTS: list[Event | Payload] = [StreamFrame(7), Payload(b"partial"), StreamFailed("boom")]
OK_MESSAGE = Message(FrameType.RES_HEADER, b"HANDLER OK\n")

GOOD: dict[str, tuple[Exchange, bytes, Sequence[Event | Payload], State]] = {
    "ping request": (server(), vectors.PING_REQUEST, PING_EVENTS, State.DONE),
    "ping answer": (
        client("/v1/ping"),
        vectors.PING_ANSWER,
        [OK_MESSAGE, Message(FrameType.RES_STRUCTURED, bytes.fromhex("0a026869"))],
        State.DONE,
    ),
    "send request": (
        server(),
        vectors.SEND_REQUEST,
        [
            Message(FrameType.REQ_HEADER, b"/v1/send"),
            Message(FrameType.REQ_STRUCTURED, bytes.fromhex("0a05736d616c6c")),
        ],
        State.DONE,
    ),
    "send answer": (
        client("/v1/send"),
        vectors.SEND_ANSWER + vectors.HELLO_STREAM + vectors.RESET,
        [OK_MESSAGE, Message(FrameType.RES_STRUCTURED, b""), *HELLO_EVENTS, Reset()],
        State.RESET,
    ),
    "failed source": (
        client("/v1/send"),
        vectors.SEND_ANSWER + vectors.FAILED_STREAM,
        [OK_MESSAGE, Message(FrameType.RES_STRUCTURED, b""), *FAILED_EVENTS],
        State.DONE,
    ),
    "recv request": (
        server(),
        vectors.RECV_HEADER + vectors.EMPTY_STRUCTURED + vectors.HELLO_STREAM,
        [
            Message(FrameType.REQ_HEADER, b"/v1/recv"),
            Message(FrameType.REQ_STRUCTURED, b""),
            *HELLO_EVENTS,
        ],
        State.DONE,
    ),
    "handler error": (
        client("/v1/send"),
        vectors.HANDLER_ERROR,
        [Message(FrameType.RES_HEADER, b"HANDLER ERROR:\nno such thing")],
        State.DONE,
    ),
    "name in two frames": (
        server(),
        bytes.fromhex("00000001000000042f76312f" + "000000010000000470696e67")
        + vectors.PING_REQUEST[16:],
        PING_EVENTS,
        State.DONE,
    ),
    "heartbeats between frames": (
        server(),
        vectors.HEARTBEAT
        + vectors.PING_REQUEST[:16]
        + bytes.fromhex("0100000000000003616263")
        + vectors.PING_REQUEST[16:],
        [Heartbeat(), Heartbeat(), *PING_EVENTS],
        State.DONE,
    ),
    "empty stream frame": (
        server("/v1/recv"),
        vectors.RECV_HEADER
        + vectors.EMPTY_STRUCTURED
        + bytes.fromhex("0000000500000000" + vectors.END),
        [
            Message(FrameType.REQ_HEADER, b"/v1/recv"),
            Message(FrameType.REQ_STRUCTURED, b""),
            StreamEnd(),
        ],
        State.DONE,
    ),
    "unknown endpoint": (
        server(),
        bytes.fromhex("0000000100000003" + b"\xffx/".hex() + vectors.END + vectors.END),
        [Message(FrameType.REQ_HEADER, b"\xffx/"), Message(FrameType.REQ_STRUCTURED, b"")],
        State.DONE,
    ),
}


def fresh(exchange: Exchange, endpoint: str) -> Exchange:
    ours = Role.SERVER if exchange.inbound._role is Role.CLIENT else Role.CLIENT
    again = Exchange(ours)
    again.endpoint = endpoint
    return again


@pytest.mark.parametrize("piece", [0, 1, 3, 7])
@pytest.mark.parametrize("name", GOOD)
def test_good_bytes_are_understood_however_they_are_cut(name: str, piece: int) -> None:
    template, data, expected, state = GOOD[name]
    exchange = fresh(template, template.endpoint)
    assert feed(exchange, data, piece) == expected
    assert exchange.inbound.state is state
    exchange.inbound.receive_eof()


@pytest.mark.parametrize("name", GOOD)
def test_every_prefix_with_its_end_is_an_error_or_complete(name: str) -> None:
    template, data, expected, _ = GOOD[name]
    for cut in range(len(data)):
        exchange = fresh(template, template.endpoint)
        found = feed(exchange, data[:cut])
        assert len(found) <= len(expected)
        complete = exchange.inbound.state in {State.DONE, State.RESET}
        if complete and not exchange.inbound.parser.mid_frame:
            exchange.inbound.receive_eof()
        else:
            with pytest.raises(RemoteProtocolError, match="ended in the"):
                exchange.inbound.receive_eof()


def frame(kind: int, payload: bytes = b"") -> bytes:
    return kind.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload


BAD_REQUESTS = {
    "first frame of type 2": frame(2, b"x"),
    "unknown heartbeat bit": frame(0x0200_0000),
    "unknown stream bit": frame(0x0004_0000),
    "answer from a client": frame(3, b"HANDLER OK\n"),
    "stream before the request": frame(5, b"x"),
    "trailer before the stream": frame(1 << 16, b"x"),
    "stream after a ping": vectors.PING_REQUEST + frame(5, b"x"),
    "second request": vectors.PING_REQUEST + vectors.PING_REQUEST,
    "end after the end": vectors.PING_REQUEST + frame(1 << 17),
    "name too long": frame(1, b"x" * 32_768) + frame(1, b"x"),
    "stream after its trailer": vectors.RECV_HEADER
    + vectors.EMPTY_STRUCTURED
    + frame(1 << 16, b"x")
    + frame(5, b"x"),
    "trailer not UTF-8": vectors.RECV_HEADER
    + vectors.EMPTY_STRUCTURED
    + frame(1 << 16, b"\xff")
    + frame(1 << 17),
    "end with payload": frame(1, b"/v1/ping") + frame(1 << 17, b"x"),
    "frame after reset": vectors.RESET + vectors.HEARTBEAT + frame(1, b"/v1/ping"),
}


@pytest.mark.parametrize("piece", [0, 1])
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests_are_the_peers_fault(name: str, piece: int) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(server(), BAD_REQUESTS[name], piece)


@pytest.mark.parametrize(
    "data",
    [
        frame(1, b"/v1/ping"),
        frame(3, b"HANDLER SO SO\n") + frame(1 << 17),
        frame(1 << 17),
        vectors.HANDLER_ERROR + frame(4, b"x"),
        vectors.PING_ANSWER + frame(5, b"x"),
    ],
)
def test_bad_answers_are_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(client("/v1/ping"), data)


def test_messages_are_bounded_before_they_are_buffered() -> None:
    exchange = server()
    request = frame(1, b"/v1/ping") + frame(1 << 17)
    feed(exchange, request + frame(2, bytes(4_194_304 - 1)))
    with pytest.raises(RemoteProtocolError, match="more than 4194304"):
        feed(exchange, bytes.fromhex("0000000200000002"))


def test_the_largest_messages_are_taken() -> None:
    exchange = server()
    found = feed(exchange, frame(1, b"x" * 32_768) + frame(1 << 17))
    assert found == [Message(FrameType.REQ_HEADER, b"x" * 32_768)]


def test_a_stream_frames_bytes_are_left_on_the_wire() -> None:
    exchange = client("/v1/send")
    exchange.inbound.parser.receive_data(vectors.SEND_ANSWER + vectors.HELLO_STREAM[:8])
    assert events(exchange)[-1] == StreamFrame(11)
    parser = exchange.inbound.parser
    assert (parser.buffered, parser.payload_left) == (0, 11)
    parser.payload_moved(11)
    assert exchange.inbound.next_event() is None
    assert parser.want == frames.HEADER_BYTES


def test_requests_and_answers_are_written_byte_for_byte() -> None:
    asking = Exchange(Role.CLIENT).outbound
    assert asking.request("/v1/ping", bytes.fromhex("0a026869")) == vectors.PING_REQUEST
    assert asking.state is State.DONE
    assert asking.reset() == vectors.RESET
    answering = server("/v1/ping").outbound
    assert answering.answer(bytes.fromhex("0a026869")) == vectors.PING_ANSWER
    sending = server("/v1/send").outbound
    assert sending.answer(b"") == vectors.SEND_ANSWER
    stream = sending.stream_frame(11) + b"hello world" + sending.stream_end()
    assert stream == vectors.HELLO_STREAM
    failing = server("/v1/send").outbound
    failing.answer(b"")
    stream = failing.stream_frame(7) + b"partial" + failing.stream_failed("boom")
    assert stream == vectors.FAILED_STREAM
    assert server("/v1/send").outbound.refusal("no such thing") == vectors.HANDLER_ERROR
    unknown = server("/nope").outbound.refusal("requested endpoint does not exist")
    assert unknown == vectors.UNKNOWN_ENDPOINT


def test_a_failed_source_never_looks_like_a_clean_end() -> None:
    sending = server("/v1/send").outbound
    sending.answer(b"")
    peer = client("/v1/send")
    found = feed(peer, vectors.SEND_ANSWER + sending.stream_failed(""))
    assert found[-1] == StreamFailed("unknown error")


def test_error_texts_are_cut_to_what_zrepl_can_take() -> None:
    refusal = server("/v1/ping").outbound.refusal("ä" * 40_000)
    (message,) = feed(client("/v1/ping"), refusal)
    assert isinstance(message, Message)
    assert len(message.data) in {32_767, 32_768}
    assert machine.response_error(message.data) == "ä" * ((32_768 - 15) // 2)


def test_response_errors_are_told_from_success() -> None:
    assert machine.response_error(b"HANDLER OK\n") is None
    assert machine.response_error(b"HANDLER ERROR:\nwhy\nnot \xff") == "why\nnot \ufffd"


@pytest.mark.parametrize(("name", "body"), [("x" * 32_769, b""), ("/v1/ping", bytes(4_194_305))])
def test_we_send_no_message_that_hangs_zrepl(name: str, body: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="is over"):
        Exchange(Role.CLIENT).outbound.request(name, body)


def test_we_send_nothing_out_of_order() -> None:
    sending = server("/v1/send").outbound
    with pytest.raises(LocalProtocolError):
        sending.stream_end()
    sending.answer(b"")
    sending.stream_end()
    with pytest.raises(LocalProtocolError):
        sending.stream_frame(1)
    sending.reset()
    with pytest.raises(LocalProtocolError):
        sending.answer(b"")


def test_the_table_is_closed() -> None:
    for role, states in machine.TRANSITIONS.items():
        assert set(states) == set(State), role
        reachable = {State.HEADER}
        for _ in State:
            reachable |= {s for state in reachable for s in states[state].values()}
        assert reachable == set(State)
        assert states[State.RESET] == {}
        assert set(states[State.DONE]) == {FrameType.RESET}
        for moves in states.values():
            assert FrameType.HEARTBEAT not in moves
        assert Switch.NOTHING_FOLLOWS not in states[State.HEADER]


@given(
    st.sampled_from([Role.CLIENT, Role.SERVER]),
    st.sampled_from(["/v1/ping", "/v1/send", "/v1/recv"]),
    st.lists(
        st.tuples(st.sampled_from([*FrameType, 6, 1 << 25]), st.binary(max_size=20)), max_size=20
    ),
    st.integers(0, 9),
)
def test_any_frames_in_any_order_are_only_ever_a_protocol_error(
    role: Role, endpoint: str, sent: list[tuple[int, bytes]], piece: int
) -> None:
    exchange = Exchange(role)
    exchange.endpoint = endpoint
    try:
        feed(exchange, b"".join(frame(kind, payload) for kind, payload in sent), piece)
        exchange.inbound.receive_eof()
    except RemoteProtocolError:
        pass


@given(st.sampled_from([Role.CLIENT, Role.SERVER]), st.binary(max_size=400), st.integers(0, 9))
def test_noise_is_only_ever_a_protocol_error(role: Role, data: bytes, piece: int) -> None:
    with contextlib.suppress(RemoteProtocolError):
        feed(Exchange(role), data, piece)


@given(
    st.binary(min_size=1, max_size=60),
    st.lists(st.integers(1, 20), max_size=5),
    st.booleans(),
    st.integers(1, 40),
)
def test_both_halves_understand_each_other(
    body: bytes, lengths: list[int], fails: bool, piece: int
) -> None:
    asking, answering = Exchange(Role.CLIENT), Exchange(Role.SERVER)
    found = feed(answering, asking.outbound.request("/v1/send", body), piece)
    assert found[-1] == Message(FrameType.REQ_STRUCTURED, body)
    out = answering.outbound
    wire = out.answer(body)
    for length in lengths:
        wire += out.stream_frame(length) + bytes(length)
    wire += out.stream_failed("why") if fails else out.stream_end()
    got = feed(asking, wire, piece)
    assert got[1] == Message(FrameType.RES_STRUCTURED, body)
    assert got[-1] == (StreamFailed("why") if fails else StreamEnd())
    moved = b"".join(event.data for event in got if isinstance(event, Payload))
    assert moved == bytes(sum(lengths))
