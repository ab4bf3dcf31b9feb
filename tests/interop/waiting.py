"""Wait for a state of another process, looked at again and again, up to a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# the emulated guest of `make test-zfs` is some 20 times slower at starting processes
LIMIT_S = 120.0
PAUSE_S = 0.05


def until(
    look: Callable[[], T | None], what: str, limit_s: float = LIMIT_S, pause_s: float = PAUSE_S
) -> T:
    """The first true value of `look()`; fails the test, naming `what`, after the limit."""
    end = time.monotonic() + limit_s
    while not (value := look()):
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(pause_s)
    return value
