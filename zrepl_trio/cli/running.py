"""The command's event loop."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
import trio

__all__ = ["run"]

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """What `main` gives. A Ctrl-C raises KeyboardInterrupt in it, so that all is cleaned up.

    Before and after, where there is nothing to clean up, `entry.py` has Ctrl-C end the process. Until
    `main` sees to its logs itself, warnings and errors go to stderr, and the rest nowhere.
    """
    with _only_warnings():
        return _run(main)


@contextmanager
def _only_warnings() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _run(main: Callable[[], Awaitable[T]]) -> T:
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
