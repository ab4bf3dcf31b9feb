"""The gRPC machines against each other, against h2 by itself, and against zrepl's bytes."""

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

from zrepl_trio.errors import LocalProtocolError, PeerTimeout, RemoteProtocolError
from zrepl_trio.rpc import grpc, h2conn
from zrepl_trio.rpc.grpc import Failure, MessageTooLarge, Status, UnaryMessage
from zrepl_trio.rpc.grpc_client import CallDone, GrpcClient
from zrepl_trio.rpc.grpc_server import MAX_HELD_BYTES, Call, CallCancelled, GrpcServer
from zrepl_trio.rpc.h2conn import GoAway
from zrepl_trio.rpc.keepalive import Action, Keepalive

PREFACE = bytes.fromhex("505249202a20485454502f322e300d0a0d0a534d0d0a0d0a")
EMPTY_SETTINGS = bytes.fromhex("000000040000000000")
GO_SERVER_START = bytes.fromhex("000006040000000000000500004000")
SETTINGS_ACK = bytes.fromhex("000000040100000000")
KEEPALIVE_PING = bytes.fromhex("0000080600000000000000000000000000")
PROBE = bytes.fromhex("00000806000000000002041010090e0707")
PROBE_ACK = bytes.fromhex("00000806010000000002041010090e0707")
GOAWAY = bytes.fromhex(
    "0000210700000000000000000000000000636c69656e74207472616e73706f72742073687574646f776e"
)
PING_HI = bytes.fromhex("0a026869")
PING = "/Replication/Ping"


# --- encodings ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", b""),
        ("plain ~text", b"plain ~text"),
        ("100%\nüber\x7f", b"100%25%0A%C3%BCber%7F"),
    ],
)
def test_status_texts_are_percent_coded(text: str, value: bytes) -> None:
    assert grpc.encode_status_text(text) == value
    assert grpc.decode_status_text(value) == text


def test_broken_percent_codes_are_left_alone() -> None:
    assert grpc.decode_status_text(b"%zz 5% %ff%4") == "%zz 5% \ufffd%4"


def test_long_status_texts_are_cut_between_characters() -> None:
    value = grpc.encode_status_text("é" * 5000)
    assert grpc.decode_status_text(value) == "é" * 2048


@given(st.text(max_size=300))
def test_status_texts_come_back(text: str) -> None:
    value = grpc.encode_status_text(text)
    assert all(0x20 <= byte <= 0x7E for byte in value)
    assert grpc.decode_status_text(value) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"29993524u", None), (b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5n", 5e-9)],
)
def test_timeouts_are_read(value: bytes, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(RemoteProtocolError):
            grpc.parse_timeout(b"1" + value)
        assert grpc.parse_timeout(value) == pytest.approx(29.993524)
    else:
        assert grpc.parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"5", b"S", b"1.5S", b"-1S", b"5s", b"5S\n", b"999999999S"])
def test_bad_timeouts_are_refused(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        grpc.parse_timeout(value)


def test_a_message_is_framed_as_zrepl_does() -> None:
    assert grpc.frame_message(PING_HI) == bytes.fromhex("00000000040a026869")
    assert grpc.frame_message(b"") == bytes(5)
    with pytest.raises(LocalProtocolError):
        grpc.frame_message(bytes(4_194_305))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\1\0\0\0\1x", "compressed"),
        (b"\0\0\0\0\1xy", "more than one"),
        (b"\0\0\x40\0\1", "over 4194304"),
    ],
)
def test_bad_messages_are_refused_at_once(data: bytes, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        UnaryMessage().receive_data(data)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\0\2x"])
def test_a_cut_message_is_refused_at_the_end(data: bytes) -> None:
    message = UnaryMessage()
    message.receive_data(data)
    with pytest.raises(RemoteProtocolError, match="cut off"):
        message.finish()


def test_a_message_may_come_byte_by_byte() -> None:
    message = UnaryMessage()
    for byte in grpc.frame_message(PING_HI):
        message.receive_data(bytes([byte]))
    assert (message.size, message.finish()) == (9, PING_HI)


def test_the_largest_message_is_taken() -> None:
    message = UnaryMessage()
    message.receive_data(grpc.frame_message(bytes(4_194_304)))
    assert len(message.finish()) == 4_194_304
    with pytest.raises(MessageTooLarge):
        UnaryMessage().receive_data(b"\0" + (4_194_305).to_bytes(4, "big"))


def test_keepalive_asks_once_and_then_gives_up() -> None:
    keepalive = Keepalive(100, 5)
    assert keepalive.next_deadline(100) == 105

    def due(now: float) -> Action:
        return keepalive.on_time(now)

    assert due(104) is Action.NOTHING
    assert due(105) is Action.PING
    assert keepalive.next_deadline(105) == 115
    assert due(114) is Action.NOTHING
    assert due(115) is Action.GIVE_UP
    keepalive.heard(116)
    assert keepalive.next_deadline(130) == 130
    assert due(121) is Action.PING


# --- the two machines ---


def exchange(client: GrpcClient, server: GrpcServer) -> tuple[list[CallDone], list[object]]:
    """Let them talk until they fall silent; what each told."""
    done: list[CallDone] = []
    called: list[object] = []
    while True:
        there, back = client.data_to_send(), server.data_to_send()
        if not there and not back:
            return done, called
        called += server.receive_data(there, 0) if there else []
        done += client.receive_data(back, 0) if back else []


def flush(machine: GrpcClient | GrpcServer) -> bytes:
    """All that it has to say now."""
    data = b""
    while part := machine.data_to_send():
        data += part
    return data


def test_a_call_goes_there_and_back() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    number = client.start_call(PING, PING_HI)
    assert client.active == [number]
    _, called = exchange(client, server)
    assert called == [Call(1, PING, PING_HI, None)]
    assert server.busy()
    server.respond(1, PING_HI)
    assert exchange(client, server)[0] == [CallDone(number, PING_HI)]
    assert not server.busy()
    assert client.active == []


@pytest.mark.parametrize("piece", [1, 7, 20_000])
def test_cuts_on_the_wire_make_no_difference(piece: int) -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    client.start_call(PING, bytes(30_000))
    there = flush(client)
    called: list[object] = []
    for at in range(0, len(there), piece):
        called += server.receive_data(there[at : at + piece], 0)
    assert [type(c) for c in called] == [Call]
    server.respond(1, bytes(20_000))
    back = flush(server)
    done: list[CallDone] = []
    for at in range(0, len(back), piece):
        done += client.receive_data(back[at : at + piece], 0)
    assert done == [CallDone(1, bytes(20_000))]


def test_the_largest_messages_pass_flow_control_both_ways() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    client.start_call(PING, bytes(4_194_304))
    (call,) = exchange(client, server)[1]
    assert isinstance(call, Call)
    assert len(call.message) == 4_194_304
    server.respond(1, bytes(4_194_304))
    (done,) = exchange(client, server)[0]
    assert done.result == bytes(4_194_304)


def test_an_answer_that_is_too_large_fails_instead() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    client.start_call(PING, b"")
    exchange(client, server)
    server.respond(1, bytes(4_194_305))
    (done,) = exchange(client, server)[0]
    failure = Failure(
        Status.RESOURCE_EXHAUSTED, "the answer of 4194305 bytes is over gRPC's 4194304"
    )
    assert done.result == failure
    with pytest.raises(LocalProtocolError):
        client.start_call(PING, bytes(4_194_305))


def test_errors_come_with_their_text() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    client.start_call(PING, b"")
    exchange(client, server)
    server.fail(1, Status.UNKNOWN, "zfs: 100%\nno such pool")
    (done,) = exchange(client, server)[0]
    assert done.result == Failure(Status.UNKNOWN, "zfs: 100%\nno such pool")
    # late answers to a call that is over are nothing
    server.respond(1, b"")
    server.fail(1, Status.UNKNOWN, "")
    assert flush(server) == b""


def test_calls_beyond_the_servers_limit_wait_their_turn() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    exchange(client, server)
    numbers = [client.start_call(PING, b"") for _ in range(250)]
    assert len(exchange(client, server)[1]) == 100
    done: list[CallDone] = []
    served = 0
    while len(done) < 250:
        for stream_id in range(1 + 2 * served, 1 + 2 * (served + 50), 2):
            server.respond(stream_id, b"")
        served += 50
        done += exchange(client, server)[0]
    assert sorted(d.call for d in done) == numbers


def test_a_cancelled_call_is_cancelled_there() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    number = client.start_call(PING, b"")
    exchange(client, server)
    client.cancel_call(number)
    assert exchange(client, server)[1] == [CallCancelled(1)]
    server.respond(1, PING_HI)
    assert exchange(client, server) == ([], [])
    waiting = client.start_call(PING, b"")
    client.cancel_call(waiting)
    assert exchange(client, server) == ([], [])
    assert client.active == []


def test_an_answer_under_way_is_dropped_with_its_call() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    number = client.start_call(PING, b"")
    exchange(client, server)
    server.respond(1, bytes(4_000_000))
    client.receive_data(server.data_to_send(), 0)
    client.cancel_call(number)
    assert exchange(client, server) == ([], [])
    assert not server.busy()


def test_answers_after_our_goodbye_go_nowhere() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    client.start_call(PING, b"")
    client.start_call(PING, b"")
    exchange(client, server)
    server.close("bye", fault=True)
    server.fail(1, Status.UNKNOWN, "late")
    server.respond(3, PING_HI)
    data = flush(server)
    assert b"late" not in data
    done = client.receive_data(data, 0)
    assert {d.result for d in done} == {
        Failure(Status.UNAVAILABLE, "the peer is leaving (PROTOCOL_ERROR: bye)")
    }
    client.close("bye")
    client.cancel_call(1)


def test_a_silent_peer_is_pinged_and_given_up() -> None:
    for machine, idle in ((GrpcClient(0), 10), (GrpcServer(0), 5)):
        flush(machine)
        assert machine.next_deadline(0) == idle
        machine.on_time(idle - 1)
        assert flush(machine) == b""
        machine.on_time(idle)
        assert flush(machine) == KEEPALIVE_PING
        assert machine.next_deadline(idle) == idle + 10
        with pytest.raises(PeerTimeout):
            machine.on_time(idle + 10)


def test_our_goodbye_is_zrepls() -> None:
    client, server = GrpcClient(0), GrpcServer(0)
    exchange(client, server)
    client.close("client transport shutdown")
    data = flush(client)
    assert data == GOAWAY
    client.close("again")
    flush(client)
    assert server.receive_data(data, 0) == []
    assert server.goaway == GoAway(0, 0, "client transport shutdown")
    assert not server.finished


# --- zrepl's own bytes ---


def test_zrepls_client_is_understood() -> None:
    server = GrpcServer(0)
    # a server must speak first: zrepl's client waits for its settings
    assert flush(server)[3] == 4
    assert server.receive_data(PREFACE + EMPTY_SETTINGS, 0) == []
    assert SETTINGS_ACK in flush(server)
    assert server.receive_data(SETTINGS_ACK + PROBE, 0) == []
    assert flush(server) == PROBE_ACK
    peer = raw(client=True)
    peer.data_to_send()
    peer.send_headers(
        1,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", PING),
            (":authority", ""),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.78.0"),
            ("te", "trailers"),
            ("grpc-timeout", "29993524u"),
        ],
    )
    peer.send_data(1, grpc.frame_message(PING_HI), end_stream=True)
    (call,) = server.receive_data(peer.data_to_send(), 0)
    assert isinstance(call, Call)
    assert (call.path, call.message) == (PING, PING_HI)
    assert call.timeout_s == pytest.approx(29.993524)
    assert server.receive_data(GOAWAY, 0) == []


def test_zrepls_server_is_understood() -> None:
    client = GrpcClient(0)
    assert flush(client).startswith(PREFACE)
    assert client.receive_data(GO_SERVER_START + SETTINGS_ACK + KEEPALIVE_PING, 0) == []
    assert flush(client) == SETTINGS_ACK + bytes.fromhex("0000080601000000000000000000000000")


def raw(*, client: bool) -> h2.connection.H2Connection:
    """h2 by itself, as a peer that may do anything."""
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=client,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.initiate_connection()
    return connection


OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def raw_server(client: GrpcClient) -> h2.connection.H2Connection:
    """A raw server that has got all that the client says."""
    peer = raw(client=False)
    peer.receive_data(flush(client))
    return peer


def answered(peer: h2.connection.H2Connection, client: GrpcClient) -> bytes | Failure:
    (done,) = client.receive_data(peer.data_to_send(), 0)
    return done.result


def test_our_requests_are_what_grpc_wants() -> None:
    client = GrpcClient(0)
    client.start_call(PING, PING_HI)
    peer = raw(client=False)
    events = peer.receive_data(flush(client))
    (request,) = [e for e in events if isinstance(e, h2.events.RequestReceived)]
    headers = dict(request.headers or [])
    assert headers.pop(b"user-agent").startswith(b"zrepl-trio/")
    assert headers == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/Replication/Ping",
        b":authority": b"",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    (data,) = [e for e in events if isinstance(e, h2.events.DataReceived)]
    assert data.data == bytes.fromhex("00000000040a026869")
    assert data.stream_ended is not None


@pytest.mark.parametrize(
    ("head", "body", "trailers", "result"),
    [
        (
            [*OK_HEAD, ("grpc-status", "2"), ("grpc-message", "a%0Ab")],
            None,
            None,
            Failure(2, "a\nb"),
        ),
        ([*OK_HEAD, ("grpc-status", "99")], None, None, Failure(99, "")),
        ([*OK_HEAD, ("grpc-status", "x")], None, None, Failure(2, "")),
        (OK_HEAD, b"\0\0\0\0\1x", [("grpc-status", "0")], b"x"),
        (OK_HEAD, b"\0\0\0\0\1x", [("grpc-status", "5"), ("grpc-message", "no")], Failure(5, "no")),
        (OK_HEAD, b"\0\0\0\0\1x", None, Failure(13, "answer without a status")),
        (OK_HEAD, b"\0\0\0", [("grpc-status", "0")], Failure(13, "message cut off after 3 bytes")),
        (OK_HEAD, b"\0\0\0\0\1xy", None, Failure(8, "more than one message in a unary call")),
        (OK_HEAD, b"", [("grpc-status", "0")], Failure(13, "message cut off after 0 bytes")),
        (
            [(":status", "503")],
            None,
            None,
            Failure(14, "the peer answered with HTTP status b'503'"),
        ),
        ([(":status", "404")], None, None, Failure(2, "the peer answered with HTTP status b'404'")),
        (
            [(":status", "200"), ("content-type", "text/html")],
            b"<html>",
            None,
            Failure(2, "the peer answered with b'text/html'"),
        ),
        (
            [*OK_HEAD, ("grpc-encoding", "gzip")],
            b"\1\0\0\0\1x",
            None,
            Failure(13, "the peer's answer is compressed"),
        ),
    ],
)
def test_answers_are_judged(
    head: list[tuple[str, str]],
    body: bytes | None,
    trailers: list[tuple[str, str]] | None,
    result: bytes | Failure,
) -> None:
    client = GrpcClient(0)
    client.start_call(PING, b"")
    peer = raw_server(client)
    peer.send_headers(1, head, end_stream=body is None)
    if body is not None:
        peer.send_data(1, body, end_stream=trailers is None)
    if trailers is not None:
        peer.send_headers(1, trailers, end_stream=True)
    assert answered(peer, client) == result
    assert client.active == []


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (h2.errors.ErrorCodes.REFUSED_STREAM, Status.UNAVAILABLE),
        (h2.errors.ErrorCodes.CANCEL, Status.CANCELLED),
        (h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, Status.RESOURCE_EXHAUSTED),
        (h2.errors.ErrorCodes.PROTOCOL_ERROR, Status.INTERNAL),
        (0xDEAD, Status.INTERNAL),
    ],
)
def test_a_reset_call_has_failed(code: int, status: Status) -> None:
    client = GrpcClient(0)
    client.start_call(PING, b"")
    peer = raw_server(client)
    peer.reset_stream(1, code)
    result = answered(peer, client)
    assert isinstance(result, Failure)
    assert result.status == status


def test_an_answer_over_the_limit_is_refused_before_it_is_held() -> None:
    client = GrpcClient(0)
    client.start_call(PING, b"")
    peer = raw_server(client)
    peer.send_headers(1, OK_HEAD)
    peer.send_data(1, b"\0\xff\xff\xff\xff")
    result = answered(peer, client)
    assert isinstance(result, Failure)
    assert result.status == Status.RESOURCE_EXHAUSTED
    (reset,) = [e for e in peer.receive_data(flush(client)) if isinstance(e, h2.events.StreamReset)]
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL
    # bytes that were under way do no harm
    with contextlib.suppress(h2.exceptions.ProtocolError):
        peer.send_data(1, b"x" * 100)
    assert client.receive_data(peer.data_to_send(), 0) == []


def goaway(last_stream: int, code: int = 0, debug: bytes = b"") -> bytes:
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + debug
    return len(payload).to_bytes(3, "big") + b"\x07\0\0\0\0\0" + payload


@pytest.mark.parametrize("piece", [1, 5, 1000])
def test_a_leaving_server_still_answers_the_calls_that_it_took(piece: int) -> None:
    client = GrpcClient(0)
    first, second = client.start_call(PING, b""), client.start_call(PING, b"")
    peer = raw_server(client)
    third = client.start_call(PING, b"")
    data = goaway(2**31 - 1) + PROBE + goaway(1, 0, b"bye")
    done = []
    for at in range(0, len(data), piece):
        done += client.receive_data(data[at : at + piece], 0)
    failed = Failure(Status.UNAVAILABLE, "the peer is leaving (NO_ERROR: bye)")
    queued = Failure(Status.UNAVAILABLE, "the peer is leaving (NO_ERROR)")
    assert done == [CallDone(third, queued), CallDone(second, failed)]
    assert (client.accepting, client.finished) == (False, False)
    peer.send_headers(1, [*OK_HEAD])
    peer.send_data(1, bytes(5))
    peer.send_headers(1, [("grpc-status", "0")], end_stream=True)
    assert answered(peer, client) == b""
    assert client.finished
    assert first not in client.active


def test_a_peer_that_leaves_in_anger_says_why() -> None:
    client = GrpcClient(0)
    client.start_call(PING, b"")
    flush(client)
    (done,) = client.receive_data(goaway(0, 11, b"too_many_pings"), 0)
    text = "the peer is leaving (ENHANCE_YOUR_CALM: too_many_pings)"
    assert done.result == Failure(Status.UNAVAILABLE, text)
    assert str(GoAway(0, 99, "")) == "the peer is leaving (error 99)"


@pytest.mark.parametrize("length", [7, 16_385])
def test_a_goaway_of_odd_size_is_refused(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f" of {length} bytes"):
        GrpcClient(0).receive_data(length.to_bytes(3, "big") + b"\x07\0\0\0\0\0", 0)


# --- what a client may do to our server ---


def raw_client(server: GrpcServer) -> h2.connection.H2Connection:
    peer = raw(client=True)
    peer.receive_data(flush(server))
    assert server.receive_data(peer.data_to_send(), 0) == []
    return peer


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


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream_id.to_bytes(4, "big") + payload


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
