"""The command's event loop."""

from __future__ import annotations

import gc
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

__all__ = ["run"]

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """What `main` gives. A Ctrl-C raises KeyboardInterrupt in it, so that all is cleaned up.

    Before and after, where there is nothing to clean up, `entry.py` has Ctrl-C end the process.
    """
    # Listings have millions of values that live for a run and are in no cycle: by Python's own
    # thresholds a third of the time of a great one goes into looking for such.
    gc.set_threshold(50_000, 20, 100)
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, by nohup say
        return trio.run(main)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # trio takes over from this one only
    try:
        return trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
