"""Attempts that are cancelled, at every call of zfs and at every step of a task."""

from __future__ import annotations

import pytest
import trio

from tests.replication.marks import INCREMENTAL, LAST, NOTHING, cursor
from tests.replication.notation import path
from tests.replication.pair import Pair
from zrepl_trio.endpoint.model import Protection
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import (
    Outcome,
)


@pytest.mark.slow
class TestCancel:
    @pytest.mark.parametrize(
        "protection",
        [
            Protection(),
            Protection(initial=INCREMENTAL, incremental=INCREMENTAL),
            Protection(initial=NOTHING, incremental=NOTHING),
        ],
        ids=["resumability", "incremental", "nothing"],
    )
    async def test_at_every_call_then_the_next_run_converges(
        self, protection: Protection, autojump_clock: trio.abc.Clock
    ) -> None:
        options = ReplicationOptions(protection=protection)
        points = 0
        while True:
            pair = Pair()
            pair.fill("tank/a", 1000)
            pair.fill("tank/a/b", 1000)
            for name in ("tank/a", "tank/a/b"):
                await pair.snapshot(name, "1")
            await pair.run(sender=pair.sender, options=options)
            for name in ("tank/a", "tank/a/b"):
                await pair.snapshot(name, "2", 300_000)
            if not await _cancelled_at(pair, points, options):
                break
            points += 1
            # no base is ever lost: whatever both had they still have
            for name in ("tank/a", "tank/a/b"):
                assert "1" in await pair.received(name)
            for name in ("tank/a", "tank/a/b"):
                await pair.snapshot(name, "3", 1000)
            report = await pair.run(sender=pair.sender, options=options)
            assert report.outcome is Outcome.DONE, (points, report.error)
            for name in ("tank/a", "tank/a/b"):
                assert pair.same(name, "3")
                listed = await pair.source.versions(path(name))
                three = next(v for v in listed if v.name == "3")
                if protection.initial is NOTHING:
                    assert await pair.marks(name) == set()
                    assert await pair.kept(name) == set()
                else:
                    assert await pair.marks(name) == {cursor(three.guid)}
                    assert await pair.kept(name) == {f"@3={LAST}"}
        assert points > 12  # calls of zfs in it

    async def test_at_every_checkpoint_of_a_first_replication(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        points = 0
        while True:
            pair = Pair()
            pair.fill("tank/a/b", 600_000)
            await pair.snapshot("tank/a/b", "1")
            pair.source.write("tank/a", {"x": b"y"})
            await pair.snapshot("tank/a", "1")
            finished = await _cancelled_by_deadline(pair, points)
            report = await pair.run(sender=pair.sender)
            assert report.outcome is Outcome.DONE, (points, report.error)
            for name in ("tank/a", "tank/a/b"):
                assert pair.same(name, "1")
                dataset = await pair.target.dataset(pair.local(name))
                assert dataset is not None
                assert not dataset.is_placeholder
                assert dataset.resume_token is None
            if finished:
                break
            points += 1
        assert points > 60


async def _cancelled_at(pair: Pair, point: int, options: ReplicationOptions) -> bool:
    """Run and cancel before the call number `point` of either zfs; False: it has fewer."""
    count = 0
    reached = False
    with trio.CancelScope() as scope:

        async def cancel(_call: str, _dataset: str) -> None:
            nonlocal count, reached
            if count == point:
                reached = True
                scope.cancel()
                await trio.lowlevel.checkpoint()
            count += 1

        pair.source.before = pair.target.before = cancel
        await pair.run(sender=pair.sender, options=options)
    pair.source.before = pair.target.before = None
    return reached


class _Countdown(trio.abc.Instrument):
    """Cancels a scope after so many task steps, wherever the tasks then are."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self._left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def _cancelled_by_deadline(pair: Pair, point: int) -> bool:
    """Run and cancel after some scheduler steps; True when it finished before."""
    with trio.CancelScope() as scope:
        instrument = _Countdown(scope, point + 1)
        trio.lowlevel.add_instrument(instrument)
        try:
            await pair.run(sender=pair.sender)
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancelled_caught
