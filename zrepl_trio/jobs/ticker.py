"""Waiting for a moment by two clocks, so that neither suspend nor a set-back clock delays it.

The monotonic clock stands still while the machine sleeps, the wall clock can be set; the first
of the two to reach the moment counts (behaviour reference 6.1: re-check every 10 s).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import trio

from zrepl_trio.clock import WallClock

__all__ = ["RECHECK_S", "Ticker"]

RECHECK_S = 10.0


class Ticker:
    """Ticks every `interval_s`, counted from its making, whatever the ticks' takers do.

    Ticks missed meanwhile (a long suspend) fall together into one.
    """

    def __init__(self, interval_s: float, clock: WallClock) -> None:
        if interval_s <= 0:
            raise ValueError("an interval must be positive")
        self._interval_s = interval_s
        self._clock = clock
        self._due_mono = trio.current_time() + interval_s
        self._due_wall = clock.now() + timedelta(seconds=interval_s)

    @property
    def next_tick(self) -> datetime:
        """When the next tick is due, by the wall clock."""
        return self._due_wall

    def _due_in(self) -> float:
        wall_s = (self._due_wall - self._clock.now()).total_seconds()
        return min(self._due_mono - trio.current_time(), wall_s)

    def _advance(self) -> None:
        late_s = max(0.0, trio.current_time() - self._due_mono)
        step_s = self._interval_s - late_s % self._interval_s
        self._due_mono = trio.current_time() + step_s
        self._due_wall = self._clock.now() + timedelta(seconds=step_s)

    async def tick(self) -> None:
        """Return at the next tick."""
        while (due_in_s := self._due_in()) > 0:  # noqa: ASYNC110 - no event tells of a suspend
            await trio.sleep(min(due_in_s, RECHECK_S))
        self._advance()
