"""The server of a control connection, and clients that misbehave, fall silent, or leave."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.connection
import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.dialled import Dial, Slow, saying
from tests.rpc.grpc_peers import EMPTY_SETTINGS, GO_SERVER_START, PREFACE, goaway
from tests.rpc.pairs import (
    connection_pair,
    greet,
)
from tests.rpc.test_server import Client
from zrepl_trio.errors import (
    ZreplError,
)
from zrepl_trio.rpc import messages, serve_control
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.grpc import Failure, Status
from zrepl_trio.rpc.grpc_client import CallDone, GrpcClient
from zrepl_trio.rpc.label import Label
from zrepl_trio.rpc.server import serve_connection


@asynccontextmanager
async def raw_client(
    endpoint: FakeEndpoint | None = None,
) -> AsyncIterator[tuple[Client, GrpcClient]]:
    """A client whose machine and connection the test moves by hand."""
    ours, theirs = connection_pair()
    with structlog.testing.capture_logs() as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, theirs, endpoint or FakeEndpoint())
            await greet(ours, Label.CONTROL)
            yield Client(ours, log), GrpcClient(0)
            await ours.aclose()
    assert theirs.closed


async def outcome(client: Client, machine: GrpcClient) -> CallDone:
    """The next call that ends."""
    while True:
        while data := machine.data_to_send():
            await client.say(data)
        data = await client.connection.receive_some(65_536)
        assert data, "the server closed the connection"
        for done in machine.receive_data(data, 0):
            return done


async def test_an_unknown_method_is_unimplemented_and_the_connection_lives() -> None:
    async with raw_client() as (client, machine):
        for path in ("/Replication/Nope", "/Other/Ping", "Ping"):
            machine.start_call(path, b"")
            done = await outcome(client, machine)
            failure = Failure(Status.UNIMPLEMENTED, f"unknown method {path}")
            assert done.result == failure
    assert client.log == []


@pytest.mark.parametrize(
    ("method", "message", "status", "said"),
    [
        ("Ping", b"\xff\xff", Status.INTERNAL, "PingReq"),
        (
            "ListFilesystemVersions",
            pdu.ListFilesystemVersionsReq(Filesystem="a/../b").SerializeToString(),
            Status.INVALID_ARGUMENT,
            "a/../b",
        ),
    ],
)
async def test_wrong_content_is_answered_and_ends_the_connection(
    method: str, message: bytes, status: Status, said: str
) -> None:
    async with raw_client() as (client, machine):
        machine.start_call(f"/Replication/{method}", message)
        result = (await outcome(client, machine)).result
        assert isinstance(result, Failure)
        assert (result.status, said in result.text) == (status, True)
        await client.hear_rest()
    assert said in client.warning()
    assert method in client.warning()


async def test_a_callers_deadline_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    endpoint = Slow()
    async with raw_client(endpoint) as (client, machine):
        machine.data_to_send()
        await client.say(PREFACE + EMPTY_SETTINGS)
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        peer.data_to_send()
        peer.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/Replication/Ping"),
                (":authority", "x"),
                ("content-type", "application/grpc"),
                ("grpc-timeout", "3S"),
            ],
        )
        peer.send_data(1, b"\0\0\0\0\4" + messages.encode_ping("60")[:4], end_stream=True)
        await client.say(peer.data_to_send())
        headers: dict[bytes, bytes] = {}
        while not headers:
            for event in peer.receive_data(await client.connection.receive_some(65_536)):
                headers = dict(getattr(event, "headers", None) or headers)
        assert headers[b"grpc-status"] == b"4"
        assert trio.current_time() == 3
        assert endpoint.cut_off == 1


async def test_calls_made_and_cancelled_without_end_pile_up_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Stubborn(Slow):
        """Its calls take a minute to end when they are cancelled, as a stuck command may."""

        async def ping(self, message: str) -> str:
            with trio.CancelScope(shield=True):
                await super().ping("60")
            return message

    endpoint = Stubborn()
    async with raw_client(endpoint) as (client, machine):
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(10):
                calls = [machine.start_call("/Replication/Ping", b"") for _ in range(100)]
                await client.say(machine.data_to_send())
                await trio.testing.wait_all_tasks_blocked()
                for call in calls:
                    machine.cancel_call(call)
                await client.say(machine.data_to_send())
                await trio.testing.wait_all_tasks_blocked()
        await client.hear_rest()
    assert endpoint.most_at_once == serve_control.MAX_HANDLERS
    assert "faster than they can end" in client.warning()


async def test_a_client_that_leaves_with_calls_open_is_logged(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = Slow()
    async with raw_client(endpoint) as (client, machine):
        machine.start_call("/Replication/Ping", messages.encode_ping("60"))
        await client.say(machine.data_to_send())
        await client.leave()
        await client.hear_rest()
    assert endpoint.cut_off == 1
    assert "left with calls open" in client.warning()


@pytest.mark.parametrize("said", [b"", PREFACE + EMPTY_SETTINGS])
async def test_an_idle_client_that_leaves_is_no_news(said: bytes) -> None:
    async with raw_client() as (client, _):
        await client.say(said)
        await client.leave()
        await client.hear_rest()
    assert client.log == []


@pytest.mark.parametrize("said", [b"", PREFACE[:5], PREFACE + EMPTY_SETTINGS])
async def test_a_client_that_falls_silent_is_given_up(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with raw_client() as (client, _):
        await client.say(said)
        await client.hear_rest()
        assert trio.current_time() == 15
    assert "keepalive" in client.warning()


async def test_what_is_not_http2_ends_the_connection() -> None:
    async with raw_client() as (client, _):
        assert (await client.hear(9))[3] == 4
        await client.say(b"GET / HTTP/1.1\r\n\r\n" + bytes(20))
        assert b"peer broke HTTP/2" in await client.hear_rest()
    assert "HTTP/2" in client.warning()


async def test_a_broken_link_is_logged() -> None:
    ours, theirs = connection_pair()
    with structlog.testing.capture_logs() as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, theirs, FakeEndpoint())
            await greet(ours, Label.CONTROL)
            await trio.testing.wait_all_tasks_blocked()
            await ours.aclose()
            ping = GrpcClient(0)
            with pytest.raises(trio.ClosedResourceError):
                await ours.send_all(ping.data_to_send())
    assert len(log) <= 1


@given(st.binary(max_size=100), st.integers(0, 2))
def test_no_noise_is_more_than_one_clear_error_or_line(data: bytes, stage: int) -> None:
    lead = [b"", GO_SERVER_START, GO_SERVER_START + goaway(5)][stage]

    async def client_side() -> None:
        with contextlib.suppress(ZreplError):
            async with open_remote(Dial(saying(lead + data))) as far:
                await far.ping("a")

    async def server_side() -> None:
        async with raw_client() as (client, _):
            await client.say([b"", PREFACE, PREFACE + EMPTY_SETTINGS][stage] + data)
            await client.leave()
            await client.hear_rest()
        assert [line["log_level"] for line in client.log] in ([], ["warning"])

    for side in (client_side, server_side):
        trio.run(side, clock=trio.testing.MockClock(autojump_threshold=0))
