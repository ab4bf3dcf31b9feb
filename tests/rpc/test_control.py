"""Control connections, both drivers: the calls, the peers that misbehave, the clock."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import h2.connection
import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.pairs import (
    PairConnecter,
    cancel_in_memory,
    connection_pair,
    greet,
    receive_exactly,
    receive_rest,
    remote,
)
from tests.rpc.test_grpc import EMPTY_SETTINGS, GO_SERVER_START, PREFACE, goaway
from tests.rpc.test_messages import POOL_A, V1
from tests.rpc.test_server import Client
from zrepl_trio.errors import (
    ConnectFailed,
    HandshakeFailed,
    PeerTimeout,
    RemoteError,
    RemoteProtocolError,
    TransportError,
    ZfsError,
    ZreplError,
)
from zrepl_trio.rpc import handshake, messages, serve_control
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.client import RemoteEndpoint, open_remote
from zrepl_trio.rpc.control import _Session
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.grpc import Failure, Status
from zrepl_trio.rpc.grpc_client import CallDone, GrpcClient
from zrepl_trio.rpc.grpc_server import Call, GrpcServer
from zrepl_trio.rpc.label import LABEL_BYTES, Label
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.model import FilesystemVersion


class Slow(FakeEndpoint):
    """Answers each ping after so many seconds as it says; counts those that were cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.cut_off = 0
        self.most_at_once = 0
        self._now = 0

    async def ping(self, message: str) -> str:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await trio.sleep(float(message))
        except trio.Cancelled:
            self.cut_off += 1
            raise
        finally:
            self._now -= 1
        return message


# --- both ends of ours ---


async def test_many_calls_share_one_connection(autojump_clock: trio.testing.MockClock) -> None:
    endpoint = Slow()
    answers: list[str] = []

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    connecter = PairConnecter(serve)
    async with open_remote(connecter) as far:
        assert connecter.connections == []

        async def ping(number: int) -> None:
            answers.append(await far.ping(str(300 - number)))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ping, number)
    assert sorted(map(float, answers)) == list(range(1, 301))
    assert len(connecter.connections) == 1
    assert connecter.connections[0].closed
    assert endpoint.most_at_once == 100


async def test_large_answers_and_small_ones_go_side_by_side() -> None:
    endpoint = FakeEndpoint()
    endpoint.versions = {
        POOL_A: [
            FilesystemVersion(
                kind=V1.kind, name=f"snapshot-{n:09}", guid=n, createtxg=n, creation=n
            )
            for n in range(5_000)
        ]
    }
    async with remote(endpoint) as far, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(far.list_versions, POOL_A)
        assert await far.list_versions(POOL_A) == endpoint.versions[POOL_A]
        assert await far.ping("hi") == "hi"


async def test_an_answer_over_four_mebibytes_is_a_clear_error() -> None:
    endpoint = FakeEndpoint()
    long = FilesystemVersion(kind=V1.kind, name="x" * 240, guid=1, createtxg=1, creation=1)
    endpoint.versions = {POOL_A: [long] * 16_000}
    async with remote(endpoint) as far:
        with pytest.raises(RemoteError, match=r"pool/a with 16000 snapshots .*gRPC takes 4194304"):
            await far.list_versions(POOL_A)
        assert await far.ping("still here") == "still here"


async def test_a_handlers_bug_costs_only_its_call() -> None:
    endpoint = FakeEndpoint()
    with structlog.testing.capture_logs() as log:
        async with remote(endpoint) as far:
            endpoint.error = ValueError("secret")
            with pytest.raises(RemoteError, match="internal error on the serving side"):
                await far.list_filesystems()
            endpoint.error = ExceptionGroup("", [ZfsError("one"), ZfsError("two")])
            with pytest.raises(RemoteError, match=r"^one\ntwo$"):
                await far.list_filesystems()
            endpoint.error = None
            assert await far.ping("hi") == "hi"
    assert [(line["log_level"], line["request"]) for line in log] == [
        ("error", "ListFilesystems"),
        ("warning", "ListFilesystems"),
    ]


async def test_a_cancelled_call_is_cancelled_at_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = Slow()
    async with remote(endpoint) as far:
        with trio.move_on_after(5):
            await far.ping("60")
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.cut_off == 1
        assert await far.ping("1") == "1"


async def test_an_idle_connection_lives_on(autojump_clock: trio.testing.MockClock) -> None:
    async with remote(Slow()) as far:
        assert await far.ping("0") == "0"
        await trio.sleep(3600)
        assert await far.ping("100") == "100"


async def test_leaving_with_calls_open_cancels_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = Slow()
    with structlog.testing.capture_logs() as log:
        with trio.move_on_after(5):
            async with remote(endpoint) as far:
                await far.ping("60")
    assert endpoint.cut_off == 1
    # the cancel has told the server before the connection went
    assert [line for line in log if line["log_level"] != "warning"] == []


async def test_a_call_cancelled_anywhere_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = FakeEndpoint()
    connecters: list[PairConnecter] = []

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async def calls() -> None:
        connecters.append(connecter := PairConnecter(serve))
        async with open_remote(connecter) as far, trio.open_nursery() as nursery:
            nursery.start_soon(far.ping, "a")
            nursery.start_soon(far.list_filesystems)
            nursery.start_soon(far.ping_data, "b")

    assert await cancel_in_memory(calls) > 20
    for connecter in connecters:
        assert all(end.closed for end in connecter.connections + connecter.server_ends)


# --- our client and its peers ---


class Dial:
    """A connecter that plays a list: an error to raise, or what serves the connection."""

    peer = "there"

    def __init__(self, *plan: object) -> None:
        self._plan = list(plan)
        self.dialled = 0

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        step = self._plan.pop(0)
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if isinstance(step, Exception):
            raise step
        async with PairConnecter(step).connect() as connection:  # type: ignore[arg-type]
            yield connection


async def good(connection: Connection) -> None:
    await serve_connection(connection, FakeEndpoint())


def saying(data: bytes, *, leave: bool = True) -> object:
    """A server that greets, says `data`, and leaves or falls silent."""

    async def serve(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + LABEL_BYTES + len(PREFACE))
        await connection.send_all(data)
        if leave:
            await connection.send_eof()
        await receive_rest(connection)
        await connection.aclose()

    return serve


@pytest.mark.parametrize(
    ("step", "error", "text"),
    [
        (ConnectFailed("ssh: no route to host"), ConnectFailed, "^ssh: no route to host$"),
        (HandshakeFailed("motd"), HandshakeFailed, "motd"),
        (saying(b""), TransportError, "the peer closed the control connection"),
        (saying(GO_SERVER_START), TransportError, "closed the control connection"),
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), RemoteProtocolError, "HTTP/2"),
        (saying(GO_SERVER_START + goaway(0, 11, b"calm")), TransportError, "leaving.*calm"),
    ],
)
async def test_a_failed_connection_fails_its_calls_and_the_next_call_dials_again(
    step: object, error: type[Exception], text: str
) -> None:
    dial = Dial(step, good)
    async with open_remote(dial) as far:
        failures: list[ZreplError] = []

        async def ping() -> None:
            try:
                await far.ping("a")
            except ZreplError as caught:
                failures.append(caught)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            nursery.start_soon(ping)
        assert dial.dialled == 1
        with pytest.raises(error, match=text):
            raise failures[0]
        assert [type(failure) for failure in failures] == [error, error]
        assert failures[0] is not failures[1]
        assert await far.ping("b") == "b"
    assert dial.dialled == 2


async def cut(connection: Connection) -> None:
    """A server that is gone before it has said all of its banner."""
    await connection.send_all(handshake.render()[:30])
    await connection.aclose()


async def test_a_link_cut_in_the_handshake_may_be_tried_again() -> None:
    async with open_remote(Dial(cut, good)) as far:
        with pytest.raises(TransportError, match="19 of 56 bytes") as caught:
            await far.ping("a")
        assert not isinstance(caught.value, HandshakeFailed)
        assert await far.ping("b") == "b"


class Knowing(Dial):
    """It knows how each of its connections ended, as one does that has an ssh to ask."""

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        async with super()._connect() as connection:
            try:
                yield connection
            except TransportError as error:
                error.add_note("ssh was killed")
                raise


@pytest.mark.parametrize("step", [cut, saying(b""), saying(GO_SERVER_START)])
async def test_what_is_known_of_a_lost_connection_reaches_every_caller(step: object) -> None:
    heard = []

    async def call(far: RemoteEndpoint) -> None:
        with pytest.raises(TransportError) as caught:
            await far.ping("a")
        heard.append(caught.value.__notes__)

    async with open_remote(Knowing(step)) as far, trio.open_nursery() as nursery:
        nursery.start_soon(call, far)
        nursery.start_soon(call, far)
    assert heard == [["ssh was killed"]] * 2


async def test_a_connection_that_fails_in_several_tasks_at_once_fails_its_calls_alone() -> None:
    group = ExceptionGroup("", [PeerTimeout("silent"), TransportError("broken")])
    async with open_remote(Dial(group, good)) as far:
        with pytest.raises(PeerTimeout, match="silent"):
            await far.ping("a")
        assert await far.ping("b") == "b"


async def test_a_connection_lost_between_calls_is_dialled_again() -> None:
    async def once(connection: Connection) -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await serve_connection(connection, FakeEndpoint())

    scopes: list[trio.CancelScope] = []
    connecter = PairConnecter(once)
    async with open_remote(connecter) as far:
        for number in range(3):
            assert await far.ping("x") == "x"
            assert len(connecter.connections) == number + 1
            scopes[-1].cancel()
            await trio.testing.wait_all_tasks_blocked()


async def test_a_connection_that_takes_too_long_to_make_is_a_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Hanging(Dial):
        @asynccontextmanager
        async def _connect(self) -> AsyncIterator[Connection]:
            await trio.sleep(math.inf)
            yield connection_pair()[0]

    async with open_remote(Hanging()) as far:
        with pytest.raises(PeerTimeout, match="no control connection to there within 20 s"):
            await far.ping("a")
    assert trio.current_time() == 20


async def test_a_live_connection_outlasts_the_limit_for_making_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with remote(Slow()) as far:
        assert await far.ping("50") == "50"


async def test_a_server_without_a_banner_is_a_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def mute(connection: Connection) -> None:
        await receive_rest(connection)

    async with open_remote(Dial(mute)) as far:
        with pytest.raises(PeerTimeout, match="version handshake took longer than 10 s"):
            await far.ping("a")


@pytest.mark.parametrize("said", [b"", GO_SERVER_START])
async def test_a_server_that_falls_silent_is_given_up(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_remote(Dial(saying(said, leave=False))) as far:
        with pytest.raises(PeerTimeout, match="keepalive"):
            await far.ping("a")
    assert trio.current_time() == 20


async def test_a_leaving_servers_last_answer_counts_and_new_calls_dial_again() -> None:
    async def leaving(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + LABEL_BYTES)
        machine = GrpcServer(0)
        while data := await connection.receive_some(65_536):
            for event in machine.receive_data(bytes(data), 0):
                assert isinstance(event, Call)
                await connection.send_all(goaway(2**31 - 1))
                machine.respond(event.stream_id, messages.encode_ping_echo("last"))
            while out := machine.data_to_send():
                await connection.send_all(out)
        await connection.aclose()

    dial = Dial(leaving, good)
    async with open_remote(dial) as far:
        assert await far.ping("x") == "last"
        assert await far.ping("y") == "y"
    assert dial.dialled == 2


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (Status.UNKNOWN, RemoteError, "^words$"),
        (Status.UNAVAILABLE, TransportError, "Ping: words"),
        (Status.DEADLINE_EXCEEDED, PeerTimeout, "Ping: words"),
        (Status.RESOURCE_EXHAUSTED, RemoteProtocolError, "Ping: words"),
        (Status.INTERNAL, RemoteProtocolError, "Ping: words"),
        (Status.UNIMPLEMENTED, RemoteError, "does not know Ping: words"),
        (Status.INVALID_ARGUMENT, RemoteError, "gRPC status 3: words"),
    ],
)
async def test_statuses_become_errors_by_what_can_be_done(
    status: Status, error: type[Exception], text: str
) -> None:
    async def refusing(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + LABEL_BYTES)
        machine = GrpcServer(0)
        while data := await connection.receive_some(65_536):
            for event in machine.receive_data(bytes(data), 0):
                assert isinstance(event, Call)
                machine.fail(event.stream_id, status, "words")
            while out := machine.data_to_send():
                await connection.send_all(out)
        await connection.aclose()

    async with open_remote(Dial(refusing)) as far:
        with pytest.raises(error, match=text):
            await far.ping("a")


async def test_a_bug_in_a_connecter_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        async with open_remote(Dial(KeyError("bug"))) as far:
            await far.ping("a")


async def test_a_session_that_is_over_takes_no_call() -> None:
    for end in ("failed", "leaving"):
        session = _Session(connection_pair()[0])
        if end == "failed":
            session.fail(ZfsError("odd"))
        else:
            session._machine.receive_data(goaway(0), 0)
        assert not session.accepting
        with pytest.raises(TransportError, match={"failed": "odd", "leaving": "is leaving"}[end]):
            await session.call("/Replication/Ping", b"")


async def test_a_link_that_breaks_fails_the_call() -> None:
    class Breaking(PairConnecter):
        def connect(self) -> AbstractAsyncContextManager[Connection]:
            return self._breaking()

        @asynccontextmanager
        async def _breaking(self) -> AsyncIterator[Connection]:
            async with self._connect() as connection:
                self.connections[0].receive_some = self._receive  # type: ignore[method-assign]
                yield connection

        async def _receive(self, max_bytes: int | None = None) -> bytes:
            if max_bytes == 65_536:
                raise OSError("no route")
            return bytes(await self.connections[0].stream.receive_some(max_bytes))

    async with open_remote(Breaking(good)) as far:
        with pytest.raises(TransportError, match="control connection broke: no route"):
            await far.ping("a")


# --- our server and its peers ---


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
