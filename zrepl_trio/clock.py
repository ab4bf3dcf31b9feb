"""Wall-clock time as an argument, so that a simulator can own it.

Monotonic waits use `trio.current_time` and `trio.sleep`, which the test clock already owns.
"""

from __future__ import annotations

import io
import os
import struct
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
    where it is set (a zone's name, a file's path, or a POSIX rule such as `JST-9`; UTC if it is none of
    them, as in the C library), else of /etc/localtime, else UTC."""
    name = os.environ.get("TZ")
    if name is not None:
        return _zone_of(name.removeprefix(":"))
    with suppress(OSError, ValueError):
        return _zone_in("/etc/localtime")
    return UTC


def _zone_of(name: str) -> tzinfo:
    with suppress(OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        return _zone_in(name) if name.startswith("/") else zoneinfo.ZoneInfo(name)
    with suppress(ValueError):
        return zoneinfo.ZoneInfo.from_file(io.BytesIO(_BARE_ZONE + name.encode() + b"\n"), key=name)
    return UTC


def _zone_in(path: str) -> tzinfo:
    with open(path, "rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)


def _header(types: int, characters: int) -> bytes:
    return struct.pack(">4sc15x6L", b"TZif", b"2", 0, 0, 0, 0, types, characters)


# A zone's file (RFC 8536) without any transition, which ends in the POSIX rule for all that follow.
_BARE_ZONE = _header(0, 0) + _header(1, 4) + struct.pack(">lBB4s", 0, 0, 0, b"UTC") + b"\n"
