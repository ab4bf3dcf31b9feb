"""The client of a control connection, and servers that misbehave, are slow, or leave."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
import trio.testing

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.dialled import Dial, Slow, saying
from tests.rpc.grpc_peers import GO_SERVER_START, goaway
from tests.rpc.pairs import (
    PairConnecter,
    connection_pair,
    receive_exactly,
    receive_rest,
    remote,
)
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
from zrepl_trio.rpc import handshake, messages
from zrepl_trio.rpc.client import RemoteEndpoint, open_remote
from zrepl_trio.rpc.control import _Session
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.grpc import Status
from zrepl_trio.rpc.grpc_server import Call, GrpcServer
from zrepl_trio.rpc.label import LABEL_BYTES
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection


async def good(connection: Connection) -> None:
    await serve_connection(connection, FakeEndpoint())


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
    for end, text in (("failed", "odd"), ("leaving", "is leaving"), ("closing", "being closed")):
        session = _Session(connection_pair()[0], math.inf)
        if end == "failed":
            session.fail(ZfsError("odd"))
        elif end == "leaving":
            session._machine.receive_data(goaway(0), 0)
        else:
            session._machine.close("bye")
        assert not session.accepting
        with pytest.raises(TransportError, match=text):
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
