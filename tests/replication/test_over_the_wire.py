"""Whole runs with the sender behind the real wire protocol, in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.replication.notation import path
from tests.replication.pair import MIB, Pair, the
from tests.rpc.pairs import PairConnecter, StreamConnection, tight_pair
from zrepl_trio.errors import ReceiveRefused
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome, Report
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection

ONCE = ReplicationOptions(attempts=1)
STEP = "zrepl_STEP_J_src"


class Wire:
    """Dials the pair's sender; counts the bytes that the client gets, and may cut the link."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.received = 0
        self.cut_after: int | None = None

        async def serve(connection: Connection) -> None:
            await serve_connection(connection, pair.sender)

        self.connecter = PairConnecter(serve, self._make_pair)

    def _make_pair(self) -> tuple[StreamConnection, StreamConnection]:
        ours, theirs = tight_pair()
        return _Counting(ours, self), theirs

    async def run(self, options: ReplicationOptions | None = None) -> Report:
        async with open_remote(self.connecter) as sender:
            return await self.pair.run(sender=sender, options=options)


class _Counting(StreamConnection):
    def __init__(self, connection: StreamConnection, wire: Wire) -> None:
        super().__init__(connection.stream)
        self._wire = wire

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        wire = self._wire
        data = await super().receive_some(max_bytes)
        wire.received += len(data)
        if wire.cut_after is not None and wire.received >= wire.cut_after:
            wire.cut_after = None
            await self.stream.aclose()
            raise trio.BrokenResourceError("cut")
        return data


async def test_full_incremental_and_nothing_to_do(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    wire = Wire(pair)
    for name in ("tank/a", "tank/a/b"):
        pair.fill(name, 3 * MIB)
        await pair.snapshot(name, "1")
    report = await wire.run()
    assert report.outcome is Outcome.DONE, report.error
    assert the(report, "tank/a").replicated > 3 * MIB
    for name in ("tank/a", "tank/a/b"):
        await pair.snapshot(name, "2", 1000)
    report = await wire.run()
    assert report.outcome is Outcome.DONE, report.error
    for name in ("tank/a", "tank/a/b"):
        assert pair.same(name, "1")
        assert pair.same(name, "2")
        (cursor,) = await pair.marks(name)
        assert cursor.startswith("#zrepl_CURSOR_G_")
    report = await wire.run()
    assert [fs.steps for fs in report.attempts[0].filesystems] == [(), ()]


async def test_a_cut_link_resumes_without_sending_again(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    wire = Wire(pair)
    pair.fill("tank/a", 8 * MIB)
    await pair.snapshot("tank/a", "1")
    wire.cut_after = 4 * MIB
    report = await wire.run(ONCE)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert "the next run resumes it" in report.error
    assert f"@1={STEP}" in await pair.marks("tank/a")
    wire.received = 0
    report = await wire.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    assert wire.received < 4 * MIB + 400_000
    assert pair.same("tank/a", "1")


async def test_a_cut_link_is_dialled_again_within_the_run(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    wire = Wire(pair)
    pair.fill("tank/a", 4 * MIB)
    await pair.snapshot("tank/a", "1")
    wire.cut_after = 2 * MIB
    report = await wire.run()
    assert report.outcome is Outcome.DONE, report.error
    assert len(report.attempts) == 2
    assert wire.received < 4 * MIB + 600_000


async def test_a_failed_send_is_told_by_the_trailer(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    wire = Wire(pair)
    pair.fill("tank/a", 2 * MIB)
    await pair.snapshot("tank/a", "1")
    pair.source.send_limit["tank/a"] = MIB
    report = await wire.run(ONCE)
    assert "zfs send of tank/a@1 failed" in report.error
    assert await pair.received("tank/a") == []
    assert await pair.marks("tank/a") == {f"@1={STEP}"}
    report = await wire.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error


async def test_a_refusing_receiver_is_the_cause_not_the_link(
    autojump_clock: trio.abc.Clock,
) -> None:
    pair = Pair()
    wire = Wire(pair)
    pair.fill("tank/a", 4 * MIB)
    await pair.snapshot("tank/a", "1")

    async def refuse(call: str, _dataset: str) -> None:
        if call == "open_receive":
            raise ReceiveRefused("backup/sink/tank/a: is not wanted here")

    pair.target.before = refuse
    report = await wire.run()
    assert report.error == "tank/a: backup/sink/tank/a: is not wanted here"
    assert len(report.attempts) == 1


async def test_a_snapshot_that_vanished_is_told_by_its_name(
    autojump_clock: trio.abc.Clock,
) -> None:
    pair = Pair()
    wire = Wire(pair)
    pair.fill("tank/a", 1000)
    await pair.snapshot("tank/a", "1")

    async def vanish(call: str, _dataset: str) -> None:
        if call == "dataset" and "1" in pair.source.world.open("tank/a").snapshots:
            await pair.lose("tank/a", "1")

    pair.source.before = vanish
    report = await wire.run()
    (failed,) = report.attempts[0].filesystems
    assert failed.error is not None
    assert "tank/a@1 does not exist (any more)" in failed.error.text


@pytest.mark.slow
async def test_cancelled_at_every_step_the_next_run_converges(
    autojump_clock: trio.abc.Clock,
) -> None:
    # Every 7th scheduler step: each point costs two whole runs over the wire.
    for point in range(1, 2000, 7):
        pair = Pair()
        wire = Wire(pair)
        pair.fill("tank/a", 400_000)
        await pair.snapshot("tank/a", "1")
        finished = await _cancelled_after(point, wire.run)
        report = await wire.run()
        assert report.outcome is Outcome.DONE, (point, report.error)
        assert pair.same("tank/a", "1")
        assert (
            STEP not in str(await pair.marks("tank/a"))
            or not report.attempts[0].filesystems[0].steps
        )
        await pair.source.snapshot(path("tank/a"), "2")
        report = await wire.run()
        assert report.outcome is Outcome.DONE, (point, report.error)
        (cursor,) = await pair.marks("tank/a")
        assert cursor.startswith("#zrepl_CURSOR_G_")
        assert await pair.kept("tank/a") == {"@2=zrepl_last_received_J_dst"}
        if finished:
            assert point > 100
            return
    raise AssertionError("it never ran to its end")


class _After(trio.abc.Instrument):
    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self._left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def _cancelled_after(steps: int, run: Callable[[], Awaitable[object]]) -> bool:
    """Whether `run` ended before it was cancelled."""
    with trio.CancelScope() as scope:
        instrument = _After(scope, steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            await run()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancelled_caught
