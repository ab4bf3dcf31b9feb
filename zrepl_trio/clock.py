"""Wall-clock time as an argument, so that a simulator can own it.

Monotonic waits use `trio.current_time` and `trio.sleep`, which the test clock already owns.
"""

from __future__ import annotations

import os
import zoneinfo
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Protocol

__all__ = ["SteadyClock", "SystemClock", "WallClock", "local_zone"]


class WallClock(Protocol):
    """Tells what time it is in the world."""

    def now(self) -> datetime:
        """The present time, aware, in UTC."""


class SteadyClock(WallClock):
    """A clock that goes as trio's does: never set, never suspended, so whoever waits for it need not
    look at it meanwhile."""


class SystemClock:
    """The computer's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def local_zone() -> tzinfo:
    """The system's zone with its rules, so that times of another season are right, too: that of TZ
    where it names one, else of /etc/localtime, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        with suppress(OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
            return zoneinfo.ZoneInfo(name)
    with suppress(OSError, ValueError), open("/etc/localtime", "rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)
    return UTC
