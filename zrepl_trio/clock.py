"""Wall-clock time as an argument, so that a simulator can own it.

Monotonic waits use `trio.current_time` and `trio.sleep`, which the test clock already owns.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

__all__ = ["SystemClock", "WallClock"]


class WallClock(Protocol):
    """Tells what time it is in the world."""

    def now(self) -> datetime:
        """The present time, aware, in UTC."""


class SystemClock:
    """The computer's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)
