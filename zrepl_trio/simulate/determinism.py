"""Trio runs that repeat to the byte: one test clock, one seed, one order of tasks.

Trio itself shuffles tasks that are ready at the same time. It has a private switch that has it
shuffle them from one order, by a private generator; nothing else in this package touches what is private to
trio, and a test fails when it is there no more.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from zrepl_trio.clock import SteadyClock

__all__ = ["SimulatedClock", "run_deterministically", "scheduling_seeded"]

_SWITCH, _GENERATOR = "_ALLOW_DETERMINISTIC_SCHEDULING", "_r"

T = TypeVar("T")


class SimulatedClock(SteadyClock):
    """The wall clock of a simulation: `start` at trio's time 0, and never suspended or set."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self._at = 0.0
        self._now = start

    def now(self) -> datetime:
        at = trio.current_time()
        if at != self._at:
            self._at, self._now = at, self.start + timedelta(seconds=at)
        return self._now

    def elapsed(self) -> float:
        """Seconds since the start."""
        return trio.current_time()

    def at(self, seconds: float) -> datetime:
        """What it shows so many seconds after the start."""
        return self.start + timedelta(seconds=seconds)


@contextmanager
def scheduling_seeded(seed: int) -> Iterator[None]:
    """In the block, trio's order of tasks that are ready together comes from `seed` alone."""
    generator = getattr(trio_run, _GENERATOR, None)
    if not isinstance(generator, random.Random) or not hasattr(trio_run, _SWITCH):
        raise AssertionError(f"trio {trio.__version__} has no such switch for its scheduling")
    switch, state = getattr(trio_run, _SWITCH), generator.getstate()
    setattr(trio_run, _SWITCH, True)
    generator.seed(seed)
    try:
        yield
    finally:
        setattr(trio_run, _SWITCH, switch)
        generator.setstate(state)


def run_deterministically(main: Callable[[], Awaitable[T]], *, seed: int) -> T:
    """What `main` gives, run on a clock that starts at 0 and jumps to the next deadline when nothing
    else is left to do. No real I/O: the clock would not wait for it.
    """
    with scheduling_seeded(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))
