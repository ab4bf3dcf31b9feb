"""A zrepl whose `zfs` hangs goes on sending heartbeats, and sets itself no limit: we do."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.endpoint import BytesSink, FakeEndpoint, FakeSource
from tests.rpc.pairs import PairConnecter, tight_pair
from tests.rpc.test_messages import FULL_SEND, POOL_A, RECEIVE
from zrepl_trio.endpoint.protocol import (
    ReceiveRequest,
    SendReply,
    SendRequest,
    StreamSource,
)
from zrepl_trio.errors import PeerStuck, RemoteError, TransportError
from zrepl_trio.rpc import handshake
from zrepl_trio.rpc.client import RemoteEndpoint, open_remote
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

LIMIT_S = 600.0


@pytest.fixture
def zrepls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends name no extensions, as a zrepl does not."""
    monkeypatch.setattr("zrepl_trio.rpc.greeting.OUR_BANNER", handshake.render())


@asynccontextmanager
async def far_end(
    endpoint: FakeEndpoint, *, here_s: float = LIMIT_S, there_s: float = math.inf
) -> AsyncIterator[RemoteEndpoint]:
    """The endpoint over a link that holds little, with a limit of ours and one of theirs."""

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint, work_limit_s=there_s)

    connecter = PairConnecter(serve, tight_pair)
    async with open_remote(connecter, work_limit_s=here_s) as far:
        yield far
    assert all(end.closed for end in connecter.connections + connecter.server_ends)


class Hanging(FakeEndpoint):
    """Each call waits for `so_long_s`; notes what was given up."""

    def __init__(self, so_long_s: float = math.inf) -> None:
        super().__init__()
        self.so_long_s = so_long_s
        self.given_up: list[str] = []

    async def hang(self, what: str) -> None:
        try:
            await trio.sleep(self.so_long_s)
        except trio.Cancelled:
            self.given_up.append(what)
            raise

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        await self.hang("listing")
        return []

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        return self._hang_and_send(request)

    @asynccontextmanager
    async def _hang_and_send(self, request: SendRequest) -> AsyncIterator[SendReply]:
        await self.hang("send")
        async with self._send(request) as reply:
            yield reply


class Pausing(trio.abc.ReceiveStream):
    """Half of a stream, then nothing for a while, then the rest."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._come = 0
        self._next_at = 0.0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._come == 2:
            return b""
        await trio.sleep_until(self._next_at)
        assert max_bytes is None or max_bytes >= 1000
        self._come += 1
        self._next_at = trio.current_time() + self._pause_s
        return bytes(1000)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Halting(FakeEndpoint):
    """Sends half of its stream, and takes half of others'; then it waits for `pause_s`, and after the end for
    `at_end_s`."""

    def __init__(self, pause_s: float, at_end_s: float = 0) -> None:
        super().__init__()
        self.pause_s = pause_s
        self.at_end_s = at_end_s
        self.error_seen: Exception | None = None

    def make_source(self) -> StreamSource:
        return FakeSource(Pausing(self.pause_s))

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        sink = PausingSink(self.pause_s)
        try:
            await stream.copy_into(sink)
            await trio.sleep(self.at_end_s)
        except RemoteError as error:
            self.error_seen = error
            raise
        finally:
            self.received = bytes(sink.data)


class PausingSink(BytesSink):
    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self._pause_s = pause_s

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await super().send_all(data)
        await trio.sleep(self._pause_s)
        self._pause_s = 0


async def take(far: RemoteEndpoint) -> int:
    sink = BytesSink()
    async with far.send(FULL_SEND) as reply:
        await reply.stream.copy_into(sink)
    return len(sink.data)


@pytest.mark.usefixtures("zrepls")
async def test_a_call_that_is_not_answered_is_given_up_and_its_handler_told(
    autojump_clock: MockClock,
) -> None:
    endpoint = Hanging()
    async with far_end(endpoint) as far:
        with pytest.raises(PeerStuck, match="has not answered ListFilesystemVersions for 600 s"):
            await far.list_versions(POOL_A)
        assert trio.current_time() == pytest.approx(LIMIT_S, abs=1)
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.given_up == ["listing"]
        # the connection is as good as before
        assert await far.ping("still there") == "still there"


@pytest.mark.usefixtures("zrepls")
async def test_a_call_is_waited_for_while_others_are_answered(autojump_clock: MockClock) -> None:
    """A zrepl may do one at a time."""
    async with far_end(Hanging(3 * LIMIT_S)) as far, trio.open_nursery() as nursery:

        async def others() -> None:
            for _ in range(5):
                await trio.sleep(LIMIT_S / 2)
                await far.ping("")

        nursery.start_soon(others)
        assert await far.list_versions(POOL_A) == []


async def test_a_zrepl_trio_is_believed_to_have_limits_of_its_own(
    autojump_clock: MockClock,
) -> None:
    async with far_end(Hanging(10 * LIMIT_S)) as far:
        assert await far.list_versions(POOL_A) == []
        assert await take(far) == 0
    async with far_end(Halting(10 * LIMIT_S), there_s=LIMIT_S) as far:
        assert await take(far) == 2000
        await far.receive(RECEIVE, FakeSource(Pausing(10 * LIMIT_S)))


@pytest.mark.usefixtures("zrepls")
@pytest.mark.parametrize("endpoint", [Hanging(), Halting(math.inf)], ids=["answer", "stream"])
async def test_a_send_that_does_not_go_on_is_given_up(
    endpoint: FakeEndpoint, autojump_clock: MockClock
) -> None:
    async with far_end(endpoint) as far:
        with pytest.raises(PeerStuck, match="nothing but its heartbeats has come for 600 s"):
            await take(far)
        assert trio.current_time() == pytest.approx(LIMIT_S, abs=10)
        assert await far.ping_data("still there") == "still there"
    assert endpoint.open_sends == 0


@pytest.mark.usefixtures("zrepls")
@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (Halting(math.inf), "takes nothing of what is sent to it for 600 s"),
        (Halting(0, math.inf), "nothing but its heartbeats has come for 600 s"),
    ],
    ids=["in the middle", "at its end"],
)
async def test_a_receive_that_does_not_go_on_is_given_up(
    endpoint: FakeEndpoint, why: str, autojump_clock: MockClock
) -> None:
    async with far_end(endpoint) as far:
        with pytest.raises(PeerStuck, match=why):
            await far.receive(RECEIVE, FakeSource.of(bytes(1_000_000)))
        assert trio.current_time() == pytest.approx(LIMIT_S, abs=10)


@pytest.mark.usefixtures("zrepls")
async def test_what_pauses_for_less_than_the_limit_is_waited_for(autojump_clock: MockClock) -> None:
    pause_s = 0.9 * LIMIT_S
    async with far_end(Halting(pause_s, pause_s), there_s=LIMIT_S) as far:
        assert await take(far) == 2000
        await far.receive(RECEIVE, FakeSource.of(bytes(1_000_000)))


@pytest.mark.usefixtures("zrepls")
async def test_our_own_slowness_is_not_the_peers(autojump_clock: MockClock) -> None:
    """The limits of a `zfs send` or `zfs recv` of ours are elsewhere."""
    async with far_end(Halting(0)) as far:
        await far.receive(RECEIVE, FakeSource(Pausing(10 * LIMIT_S)))
        async with far.send(FULL_SEND) as reply:
            sink = PausingSink(10 * LIMIT_S)
            await reply.stream.copy_into(sink)
            assert len(sink.data) == 2000


@pytest.mark.usefixtures("zrepls")
async def test_a_client_that_does_not_go_on_sending_is_given_up_and_told(
    autojump_clock: MockClock,
) -> None:
    endpoint = Halting(0)
    async with far_end(endpoint, here_s=math.inf, there_s=LIMIT_S) as far:
        with pytest.raises(RemoteError, match="the peer lives, but nothing but its heartbeats"):
            await far.receive(RECEIVE, FakeSource(Pausing(math.inf)))
    assert isinstance(endpoint.error_seen, PeerStuck)
    assert endpoint.received == bytes(1000)


@pytest.mark.usefixtures("zrepls")
async def test_a_client_that_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(1_000_000)
    async with far_end(endpoint, here_s=math.inf, there_s=LIMIT_S) as far:
        with pytest.raises(TransportError, match="the connection ended in the server's stream"):
            async with far.send(FULL_SEND) as reply:
                await reply.stream.copy_into(PausingSink(3 * LIMIT_S))
        assert endpoint.open_sends == 0


@pytest.mark.usefixtures("zrepls")
async def test_a_client_that_does_not_leave_is_let_go(autojump_clock: MockClock) -> None:
    """It has all of the stream, and its own `zfs recv` hangs."""
    endpoint = FakeEndpoint()
    async with far_end(endpoint, here_s=math.inf, there_s=LIMIT_S) as far:
        async with far.send(FULL_SEND) as reply:
            await reply.stream.copy_into(BytesSink())
            await trio.sleep(3 * LIMIT_S)
        assert await far.ping("") == ""
