from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from zrepl_trio.jobs.ticker import Ticker
from zrepl_trio.moments import RECHECK_S


async def test_ticks_keep_their_rhythm(autojump_clock: trio.testing.MockClock) -> None:
    ticker = Ticker(60, FollowingClock())
    times = []
    for work_s in (0, 10, 59, 0):
        await ticker.tick()
        times.append(trio.current_time())
        await trio.sleep(work_s)
    assert times == pytest.approx([60, 120, 180, 240])


async def test_missed_ticks_fall_together(autojump_clock: trio.testing.MockClock) -> None:
    ticker = Ticker(60, FollowingClock())
    await trio.sleep(60 * 5 + 30)
    await ticker.tick()
    assert trio.current_time() == pytest.approx(330)
    await ticker.tick()
    assert trio.current_time() == pytest.approx(360)


async def test_a_suspend_delays_by_one_recheck_at_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    clock = FollowingClock()
    ticker = Ticker(3600, clock)
    await trio.sleep(100)
    clock.offset_s = 8 * 3600  # the lid was closed
    before = trio.current_time()
    await ticker.tick()
    assert trio.current_time() - before <= RECHECK_S


async def test_a_clock_set_back_delays_nothing(autojump_clock: trio.testing.MockClock) -> None:
    clock = FollowingClock()
    ticker = Ticker(60, clock)
    clock.offset_s = -86400
    await ticker.tick()
    assert trio.current_time() == pytest.approx(60)
    await ticker.tick()
    assert trio.current_time() == pytest.approx(120)


async def test_next_tick_is_told_in_wall_time(autojump_clock: trio.testing.MockClock) -> None:
    clock = FollowingClock()
    ticker = Ticker(60, clock)
    assert (ticker.next_tick - clock.now()).total_seconds() == pytest.approx(60)


async def test_an_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        Ticker(0, FollowingClock())
