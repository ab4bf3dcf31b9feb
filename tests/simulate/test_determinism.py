"""Runs that repeat exactly."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

import trio
from trio._core import _run as trio_run

from tests.jobs.clocks import FollowingClock
from zrepl_trio.moments import Moment, until_shown
from zrepl_trio.simulate.determinism import (
    SimulatedClock,
    run_deterministically,
    scheduling_seeded,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_trio_has_the_private_parts_that_this_rests_on() -> None:
    """Whoever sees this fail: find out how trio orders tasks now, and see to `determinism`."""
    assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING in {True, False}
    assert type(trio_run._r) is random.Random


def order_of(seed: int) -> list[int]:
    """In which order tasks that are ready together come to run, over and over."""

    async def main() -> list[int]:
        seen: list[int] = []

        async def work(number: int) -> None:
            for _ in range(8):
                await trio.lowlevel.checkpoint()
                seen.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(work, number)
        return seen

    return run_deterministically(main, seed=seed)


def test_the_order_of_tasks_is_that_of_the_seed() -> None:
    orders = [order_of(7) for _ in range(9)]
    assert all(order == orders[0] for order in orders)
    assert order_of(8) != orders[0], "the order does not depend on the seed"


def test_trio_is_left_as_it_was() -> None:
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    with scheduling_seeded(3):
        assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING
        trio_run._r.random()
    assert (trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()) == before


def test_a_year_passes_at_once_and_to_the_second() -> None:
    clock = SimulatedClock(START)

    async def main() -> datetime:
        await trio.sleep(366 * 86400)
        return clock.now()

    began = time.monotonic()
    assert run_deterministically(main, seed=1) == START + timedelta(days=366)
    assert time.monotonic() - began < 5


def test_nobody_looks_at_a_steady_clock_before_it_is_time() -> None:
    """A real one is looked at every ten seconds, which would be all that a year consists of."""

    async def woken(clock: SimulatedClock | FollowingClock) -> list[int]:
        steps = 0

        class Steps(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                nonlocal steps
                steps += 1

        counts = []
        for wait in (
            Moment.after(3600, clock).come(clock),
            until_shown(clock.now() + timedelta(hours=2), clock),
        ):
            steps = 0
            instrument = Steps()
            trio.lowlevel.add_instrument(instrument)
            await wait
            trio.lowlevel.remove_instrument(instrument)
            counts.append(steps)
        return counts

    assert max(run_deterministically(lambda: woken(SimulatedClock(START)), seed=1)) <= 4
    assert min(run_deterministically(lambda: woken(FollowingClock()), seed=1)) >= 300
