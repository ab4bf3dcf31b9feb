"""The gRPC machines against each other, against h2 by itself, and against zrepl's bytes."""

from __future__ import annotations

import contextlib

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import pytest

from tests.rpc.grpc_peers import (
    EMPTY_SETTINGS,
    GO_SERVER_START,
    GOAWAY,
    KEEPALIVE_PING,
    PING,
    PING_HI,
    PREFACE,
    PROBE,
    PROBE_ACK,
    SETTINGS_ACK,
    answered,
    exchange,
    flush,
    goaway,
    raw,
    raw_server,
)
from zrepl_trio.errors import LocalProtocolError, PeerTimeout, RemoteProtocolError
from zrepl_trio.rpc import grpc
from zrepl_trio.rpc.grpc import Failure, Status
from zrepl_trio.rpc.grpc_client import CallDone, GrpcClient
from zrepl_trio.rpc.grpc_server import Call, CallCancelled, GrpcServer
from zrepl_trio.rpc.h2conn import GoAway


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


def test_no_call_follows_our_goodbye() -> None:
    """Neither one that waited for its turn, nor one that somebody begins while it is being said."""
    client, server = GrpcClient(0), GrpcServer(0)
    exchange(client, server)
    client.start_call(PING, PING_HI)
    client.close("client transport shutdown")
    assert not client.accepting
    client.start_call(PING, PING_HI)
    assert flush(client) == GOAWAY


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


OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


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
