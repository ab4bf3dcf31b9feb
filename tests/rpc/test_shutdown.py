"""How a data connection ends, and what is counted of it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc import vectors
from tests.rpc.pairs import (
    PairConnecter,
    StreamConnection,
    connection_pair,
    lockstep_pair,
    receive_exactly,
    receive_rest,
)
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.dataconn import open_dataconn
from zrepl_trio.rpc.machine import Role
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.rpc.shutdown import ShutdownTotals, Step, Summary, shut_down
from zrepl_trio.transport.base import Connection

NO_HARD_CLOSE = {Step.RESET: 0, Step.HALF_CLOSE: 0, Step.DRAIN: 0}


class Troubled(StreamConnection):
    """Fails in the method named by `where`: by `error`, or by never coming to an end."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self.where = ""
        self.error: Exception | None = None

    async def _trouble(self, where: str) -> None:
        if where == self.where:
            if self.error is not None:
                raise self.error
            await trio.sleep_forever()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._trouble("send_all")
        await super().send_all(data)

    async def send_eof(self) -> None:
        await self._trouble("send_eof")
        await super().send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await super().receive_some(max_bytes)
        if not data:
            await self._trouble("receive_some")
        return data

    async def aclose(self) -> None:
        await super().aclose()
        await self._trouble("aclose")


async def test_an_orderly_end_is_timed_and_its_drain_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = connection_pair()
    totals = ShutdownTotals()

    async def peer() -> None:
        assert await receive_rest(theirs) == vectors.RESET
        await trio.sleep(2)
        await theirs.send_all(b"late words")
        await theirs.aclose()

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer)
            await shut_down(ours, vectors.RESET, totals)
        assert ours.closed
        ours, theirs = connection_pair()
    assert totals.seconds == totals.drain_seconds == Summary(count=2, total=4)
    assert totals.drain_bytes == Summary(count=2, total=20)
    assert totals.hard_closes == NO_HARD_CLOSE
    assert totals.close_errors == {Step.CLOSE: 0}


@pytest.mark.parametrize(
    ("where", "error", "step", "seconds"),
    [
        ("send_all", trio.BrokenResourceError(), Step.RESET, 0),
        ("send_all", None, Step.RESET, 10),
        ("send_eof", OSError("gone"), Step.HALF_CLOSE, 0),
        ("send_eof", None, Step.HALF_CLOSE, 10),
        ("receive_some", None, Step.DRAIN, 10),
        ("receive_some", trio.BrokenResourceError(), None, 0),
    ],
)
async def test_a_hard_close_is_counted_by_its_step(
    where: str,
    error: Exception | None,
    step: Step | None,
    seconds: float,
    autojump_clock: trio.testing.MockClock,
) -> None:
    plain, theirs = connection_pair()
    ours = Troubled(plain.stream)
    ours.where, ours.error = where, error
    await theirs.send_all(b"12345")
    await theirs.send_eof()
    totals = ShutdownTotals()
    await shut_down(ours, vectors.RESET, totals)
    assert ours.closed
    assert {each: count for each, count in totals.hard_closes.items() if count} == (
        {} if step is None else {step: 1}
    )
    assert totals.seconds == Summary(count=1, total=seconds)
    drained = where == "receive_some"
    assert totals.drain_seconds == Summary(count=int(drained), total=seconds if drained else 0)
    assert totals.drain_bytes == Summary(count=int(drained), total=5 if drained else 0)
    assert totals.close_errors == {Step.CLOSE: 0}


async def test_a_close_that_fails_or_hangs_is_an_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    totals = ShutdownTotals()
    plain, theirs = connection_pair()
    await theirs.send_eof()
    ours = Troubled(plain.stream)
    ours.where, ours.error = "aclose", OSError("broken disk")
    with pytest.raises(OSError, match="broken disk"):
        await shut_down(ours, vectors.RESET, totals)
    assert totals.close_errors == {Step.CLOSE: 1}
    plain, theirs = connection_pair()
    await theirs.send_eof()
    ours = Troubled(plain.stream)
    ours.where = "aclose"
    await shut_down(ours, vectors.RESET, totals)
    assert totals.close_errors == {Step.CLOSE: 2}
    assert totals.seconds == totals.drain_seconds == Summary(count=2, total=5)
    assert totals.hard_closes == NO_HARD_CLOSE


async def test_after_a_cut_frame_the_close_is_hard() -> None:
    ours, theirs = lockstep_pair()
    totals = ShutdownTotals()

    async def serve() -> None:
        async with open_dataconn(ours, Role.SERVER, shutdowns=totals) as data:
            await data.receive_request()
            await data.send_answer(b"")
            async with data.frame(1000) as body:
                await body.send_all(bytes(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await theirs.send_all(vectors.SEND_REQUEST)
        await receive_exactly(theirs, len(vectors.SEND_ANSWER) + 8 + 10)
        nursery.cancel_scope.cancel()
    assert totals.hard_closes == {**NO_HARD_CLOSE, Step.RESET: 1}
    assert (totals.seconds.count, totals.drain_seconds.count) == (1, 0)


async def test_a_cancelled_shutdown_is_still_an_orderly_one() -> None:
    ours, theirs = connection_pair()
    totals = ShutdownTotals()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shut_down, ours, vectors.RESET, totals)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await receive_rest(theirs) == vectors.RESET
            await theirs.aclose()
    assert ours.closed
    assert (totals.seconds.count, totals.drain_seconds.count) == (1, 1)
    assert totals.hard_closes == NO_HARD_CLOSE


async def test_both_sides_count_data_connections_and_no_others() -> None:
    here, there = ShutdownTotals(), ShutdownTotals()

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, FakeEndpoint(), shutdowns=there)

    async with open_remote(PairConnecter(serve), shutdowns=here) as far:
        await far.ping("by the control connection")
        assert (here.seconds.count, there.seconds.count) == (0, 0)
        await far.ping_data("by one of its own")
        await far.ping_data("by another")
    for totals in (here, there):
        assert totals.seconds.count == totals.drain_bytes.count == 2
        assert totals.hard_closes == NO_HARD_CLOSE
