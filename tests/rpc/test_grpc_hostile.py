"""What a client may do to our gRPC server, and what noise does to either machine."""

from __future__ import annotations

import contextlib

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rpc.grpc_peers import (
    EMPTY_SETTINGS,
    GO_SERVER_START,
    PING,
    PING_HI,
    PREFACE,
    PROBE,
    flush,
    raw,
    raw_client,
    raw_frame,
)
from zrepl_trio.errors import RemoteProtocolError
from zrepl_trio.rpc import grpc, h2conn
from zrepl_trio.rpc.grpc import Status
from zrepl_trio.rpc.grpc_client import GrpcClient
from zrepl_trio.rpc.grpc_server import MAX_HELD_BYTES, Call, GrpcServer

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PING),
    (":authority", "x"),
    ("content-type", "application/grpc+proto"),
    ("te", "trailers"),
]


def changed(**changes: str) -> list[tuple[str, str]]:
    headers = dict(REQUEST)
    for name, value in changes.items():
        headers[{"method": ":method"}.get(name, name.replace("_", "-"))] = value
    return list(headers.items())


@pytest.mark.parametrize(
    ("headers", "body", "http", "status"),
    [
        (changed(method="GET"), b"", b"405", Status.INTERNAL),
        (changed(content_type="application/json"), b"", b"415", Status.INTERNAL),
        (changed(grpc_encoding="gzip"), b"", b"200", Status.UNIMPLEMENTED),
        (changed(grpc_timeout="soon"), b"", b"200", Status.INTERNAL),
        (REQUEST, b"\1\0\0\0\0", b"200", Status.UNIMPLEMENTED),
        (REQUEST, b"\0\0\0\0\1xy", b"200", Status.UNIMPLEMENTED),
        (REQUEST, b"\0\0\0\0\2x", b"200", Status.INTERNAL),
        (REQUEST, b"", b"200", Status.INTERNAL),
        (REQUEST, b"\0\xff\xff\xff\xff", b"200", Status.RESOURCE_EXHAUSTED),
    ],
)
def test_requests_that_are_not_grpc_are_answered_and_cost_nothing(
    headers: list[tuple[str, str]], body: bytes, http: bytes, status: Status
) -> None:
    server = GrpcServer(0)
    peer = raw_client(server)
    peer.send_headers(1, headers)
    peer.send_data(1, body, end_stream=True)
    assert server.receive_data(peer.data_to_send(), 0) == []
    events = peer.receive_data(flush(server))
    (response,) = [e for e in events if isinstance(e, h2.events.ResponseReceived)]
    got = dict(response.headers or [])
    assert got[b":status"] == http
    assert got[b"grpc-status"] == str(int(status)).encode()
    assert not server.busy()


def test_a_request_that_its_client_drops_is_forgotten() -> None:
    server = GrpcServer(0)
    peer = raw_client(server)
    peer.send_headers(1, REQUEST)
    peer.send_data(1, b"\0\0\0\0\5ab")
    server.receive_data(peer.data_to_send(), 0)
    assert server.busy()
    peer.reset_stream(1)
    assert server.receive_data(peer.data_to_send(), 0) == []
    assert not server.busy()


def test_too_many_calls_at_once_end_the_connection() -> None:
    server = GrpcServer(0)
    peer = raw(client=True)
    for number in range(100):
        peer.send_headers(1 + 2 * number, REQUEST)
    assert server.receive_data(peer.data_to_send(), 0) == []
    peer.send_headers(201, REQUEST)
    with pytest.raises(RemoteProtocolError, match="TooManyStreams"):
        server.receive_data(peer.data_to_send(), 0)
    assert b"\x07" in flush(server)


def test_too_much_of_unfinished_requests_ends_the_connection() -> None:
    server = GrpcServer(0)
    peer = raw_client(server)
    size = 4_000_000

    def send_most_of(stream_id: int) -> None:
        peer.send_headers(stream_id, REQUEST)
        left = b"\0" + (size + 1).to_bytes(4, "big") + bytes(size)
        while left:
            room = min(peer.local_flow_control_window(stream_id), 16_384)
            peer.send_data(stream_id, left[:room])
            left = left[room:]
            server.receive_data(peer.data_to_send(), 0)
            peer.receive_data(flush(server))

    for number in range(MAX_HELD_BYTES // size):
        send_most_of(1 + 2 * number)
    with pytest.raises(RemoteProtocolError, match="unfinished requests"):
        send_most_of(1001)


def test_headers_that_are_too_big_end_the_connection() -> None:
    block = hpack.Encoder().encode([*REQUEST, ("x-big", "x" * 100_000)], huffman=False)
    first, *others = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    server = GrpcServer(0)
    server.receive_data(PREFACE + EMPTY_SETTINGS + raw_frame(1, 0, 1, first), 0)
    for part in others[:3]:
        server.receive_data(raw_frame(9, 0, 1, part), 0)
    with pytest.raises(RemoteProtocolError, match="headers over 65536"):
        server.receive_data(raw_frame(9, 0, 1, others[3])[:9], 0)


def test_headers_that_grow_too_big_end_the_connection() -> None:
    # one large entry of the table, named again and again by one byte each
    encoder = hpack.Encoder()
    block = encoder.encode([*REQUEST, ("x-big", "x" * 3000)], huffman=False)
    server = GrpcServer(0)
    bomb = block + b"\xbe" * 60
    with pytest.raises(RemoteProtocolError, match="DenialOfService"):
        server.receive_data(PREFACE + EMPTY_SETTINGS + raw_frame(1, 4, 1, bomb), 0)


def test_a_flood_of_pings_whose_answers_nobody_reads_ends_the_connection() -> None:
    server = GrpcServer(0)
    server.receive_data(PREFACE + EMPTY_SETTINGS, 0)
    flush(server)
    server.receive_data(PROBE * 6_000, 0)
    flush(server)
    server.receive_data(PROBE * 6_000, 0)
    flush(server)
    with pytest.raises(RemoteProtocolError, match="floods"):
        server.receive_data(PROBE * (h2conn.MAX_UNFLUSHED_REPLIES + 1), 0)


@pytest.mark.parametrize(
    "request_", [[(":method", "GET"), *REQUEST[1:]], REQUEST], ids=["refused", "answered"]
)
def test_a_flood_of_requests_whose_answers_nobody_reads_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, request_: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(h2conn, "MAX_UNFLUSHED_REPLIES", 50)
    server = GrpcServer(0)
    peer = raw_client(server)

    def ask(count: int) -> None:
        for _ in range(count):
            number = peer.get_next_available_stream_id()
            peer.send_headers(number, request_)
            peer.send_data(number, bytes(5), end_stream=True)
            for call in server.receive_data(peer.data_to_send(), 0):
                assert isinstance(call, Call)
                server.fail(call.stream_id, Status.UNKNOWN, "no")

    for _ in range(3):
        ask(40)
        peer.receive_data(flush(server))
    with pytest.raises(RemoteProtocolError, match="floods"):
        ask(51)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(64),
        PREFACE + b"\xff" * 9,
        PREFACE + EMPTY_SETTINGS + bytes.fromhex("000004010500000001ffffffff"),
        PREFACE + EMPTY_SETTINGS + bytes.fromhex("004001000100000001"),
    ],
)
def test_what_is_not_http2_ends_the_connection(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="HTTP/2"):
        GrpcServer(0).receive_data(data, 0)


@given(st.binary(max_size=200), st.integers(0, 2))
def test_noise_is_only_ever_the_peers_fault(data: bytes, stage: int) -> None:
    lead = [b"", PREFACE, PREFACE + EMPTY_SETTINGS][stage]
    server = GrpcServer(0)
    with contextlib.suppress(RemoteProtocolError):
        server.receive_data(lead + data, 0)
    flush(server)
    client = GrpcClient(0)
    client.start_call(PING, b"")
    flush(client)
    with contextlib.suppress(RemoteProtocolError):
        client.receive_data([b"", EMPTY_SETTINGS, GO_SERVER_START][stage] + data, 0)
    flush(client)


_FRAME = st.builds(
    lambda kind, flags, stream, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    ),
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D]),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
    st.binary(max_size=40)
    | st.sampled_from([grpc.frame_message(PING_HI), bytes(8), bytes(4), b"\x83\x86\x84"]),
)


@settings(max_examples=300)
@given(st.lists(_FRAME, max_size=12))
def test_any_frames_are_only_ever_the_peers_fault(frames: list[bytes]) -> None:
    server, client = GrpcServer(0), GrpcClient(0)
    client.start_call(PING, b"")
    there = flush(client)
    with contextlib.suppress(RemoteProtocolError):
        server.receive_data(there, 0)
        for frame in frames:
            for event in server.receive_data(frame, 0):
                if isinstance(event, Call):
                    server.respond(event.stream_id, b"x")
            flush(server)
    flush(server)
    with contextlib.suppress(RemoteProtocolError):
        for frame in frames:
            client.receive_data(frame, 0)
            flush(client)
    client.close("bye")
    flush(client)
