"""Waiting for a moment of the world, through suspends and clocks that are set."""

from __future__ import annotations

from datetime import datetime

import trio

from zrepl_trio.clock import WallClock

__all__ = ["RECHECK_S", "wait_until"]

RECHECK_S = 10.0
"""How late a suspend or a set clock may make it (behaviour reference 6.1)."""


async def wait_until(when: datetime, clock: WallClock, *, by_wall_alone: bool = False) -> None:
    """Return once it is `when`: by the wall clock, or by as much time as it was away from now, so that a
    clock that is set back does not double an interval; not for a time of day."""
    due_mono = trio.current_time() + (when - clock.now()).total_seconds()
    while True:
        left_s = (when - clock.now()).total_seconds()
        if not by_wall_alone:
            left_s = min(left_s, due_mono - trio.current_time())
        if left_s <= 0:
            return
        await trio.sleep(min(left_s, RECHECK_S))
