"""Creation times on the wire: RFC 3339 with whole seconds, to and from seconds since the epoch.

A zrepl peer that meets a version whose time does not parse can crash, so whatever zfs says is
rendered as a time that parses; and Go's "no time" is in the year 1, with any zone, so reading
must not stop at Python's calendar.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache

__all__ = ["parse", "render"]

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097
_LATEST = 253_402_300_799
_EARLIEST = -62_135_596_800
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


@lru_cache(maxsize=1 << 16)  # many filesystems have snapshots of the same time
def render(seconds: int) -> str:
    """The time in UTC; one outside the years 1 to 9999 as the nearest second inside."""
    inside = min(max(seconds, _EARLIEST), _LATEST)
    text = datetime.fromtimestamp(inside, UTC).replace(tzinfo=None).isoformat()
    return f"{text}Z"


@lru_cache(maxsize=1 << 16)
def parse(text: str) -> int:
    """Seconds since the epoch, fractions dropped; ValueError for what is not RFC 3339."""
    found = _RFC3339.fullmatch(text)
    if not found:
        raise ValueError(f"creation time {text[:40]!r} is not RFC 3339")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"creation time {text!r} is no time of day")
    try:
        # one whole cycle of the calendar later, so that the year 0 has a date too
        days = date(year + _CYCLE_YEARS if year < _CYCLE_YEARS else year, month, day).toordinal()
    except ValueError:
        raise ValueError(f"creation time {text!r} is no date") from None
    days -= _EPOCH_DAY + (_CYCLE_DAYS if year < _CYCLE_YEARS else 0)
    offset = 0
    if found[7]:
        zone_hours, zone_minutes = int(found[8]), int(found[9])
        if zone_hours > 24 or zone_minutes > 59:
            raise ValueError(f"creation time {text!r} has no real zone")
        offset = (zone_hours * 60 + zone_minutes) * (60 if found[7] == "+" else -60)
    return days * 86_400 + hour * 3600 + minute * 60 + second - offset
