"""Ticks in a rhythm that neither suspend nor a set clock delays."""

from __future__ import annotations

from datetime import datetime

import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.moments import Moment

__all__ = ["Ticker"]


class Ticker:
    """Ticks every `interval_s`, counted from its making, whatever the ticks' takers do.

    Ticks missed meanwhile (a long suspend) fall together into one.
    """

    def __init__(self, interval_s: float, clock: WallClock) -> None:
        if interval_s <= 0:
            raise ValueError("an interval must be positive")
        self._interval_s = interval_s
        self._clock = clock
        self._due = Moment.after(interval_s, clock)

    @property
    def next_tick(self) -> datetime:
        """When the next tick is due, by the wall clock."""
        return self._due.wall

    async def tick(self) -> None:
        """Return at the next tick."""
        await self._due.come(self._clock)
        late_s = max(0.0, trio.current_time() - self._due.mono)
        self._due = Moment.after(self._interval_s - late_s % self._interval_s, self._clock)
