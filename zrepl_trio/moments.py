"""Waiting for a moment of the world, through suspends and clocks that are set."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import trio

from zrepl_trio.clock import SteadyClock, WallClock
from zrepl_trio.values import valueclass

__all__ = ["RECHECK_S", "Moment", "until_shown"]

RECHECK_S = 10.0
"""How late a suspend or a set clock may make it (behaviour reference 6.1)."""


def _recheck_s(clock: WallClock) -> float:
    return math.inf if isinstance(clock, SteadyClock) else RECHECK_S


@valueclass(frozen=True, slots=True)
class Moment:
    """A moment to come, by the wall clock and by trio's: whichever gets there first, so that neither a
    suspend nor a clock that is set puts it off."""

    wall: datetime
    mono: float

    @classmethod
    def after(cls, seconds: float, clock: WallClock) -> Moment:
        """So many seconds from now."""
        return cls(clock.now() + timedelta(seconds=seconds), trio.current_time() + seconds)

    @classmethod
    def at(cls, when: datetime, clock: WallClock) -> Moment:
        """When the wall clock shows this, as it goes now."""
        return cls(when, trio.current_time() + (when - clock.now()).total_seconds())

    async def come(self, clock: WallClock) -> None:
        """Return once it is there."""
        recheck_s = _recheck_s(clock)
        while True:
            left_s = min((self.wall - clock.now()).total_seconds(), self.mono - trio.current_time())
            if left_s <= 0:
                return
            await trio.sleep(min(left_s, recheck_s))


async def until_shown(when: datetime, clock: WallClock) -> bool:
    """Wait until the wall clock shows `when`, a time of day; False as soon as it was set back by more
    than a recheck, since then another time may come first."""
    before = clock.now()
    recheck_s = _recheck_s(clock)
    while (now := clock.now()) < when:
        if (before - now).total_seconds() > RECHECK_S:
            return False
        before = now
        await trio.sleep(min((when - now).total_seconds(), recheck_s))
    return True
