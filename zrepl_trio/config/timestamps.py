"""`timestamp_format` and `timestamp_location`: the part of a snapshot name that is the time.

Formats are zrepl's keywords or a Go time layout (`2006-01-02_15-04`), where the reference time's
own digits stand for the fields. Only formatting is needed: snapshots are dated by ZFS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

from zrepl_trio.config.cron import load_zone
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.zfs.names import MAX_NAME_BYTES, InvalidName, check_snapshot_name

__all__ = ["TIMESTAMP_WORDS", "NamingError", "SnapshotNaming"]

TIMESTAMP_WORDS = "dense, human, iso-8601, unix-seconds or a Go time layout without `+`"

_KEYWORDS = {
    # The trailing _000 is a literal: Go reads fractional zeros only behind `.` or `,`.
    "dense": "20060102_150405_000",
    "human": "2006-01-02_15:04:05",
    "iso-8601": "2006-01-02T15:04:05.000Z0700",
    "unix-seconds": "",
}
_UTC_ONLY = frozenset({"dense", "human", "unix-seconds"})

_MONTHS = "January February March April May June July August September October November December"
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"

# Go's layout elements, in the order in which Go tries them at each position.
_ELEMENT = re.compile(
    r"""
      January | Jan(?![a-z]) | Monday | Mon(?![a-z]) | MST
    | 0[1-6] | 002 | 15 | 1 | 2006 | 2 | __2 | _2(?!006)
    | 3 | 4 | 5 | PM | pm
    | [-Z]07(?::00:00 | 0000 | :00 | 00)?
    | [.,](?:0+|9+)(?![0-9])
    """,
    re.VERBOSE,
)

# zrepl's own best-effort check formats these two days, which differ in daylight saving time.
_TRIAL_DAYS = (datetime(2020, 6, 1, tzinfo=UTC), datetime(2020, 12, 1, tzinfo=UTC))

_STEPS = (timedelta(seconds=1), timedelta(minutes=1))

_SAMPLE_START = datetime(2025, 1, 1, tzinfo=UTC)
_SAMPLE_DAYS = 2 * 365


_LONGEST = datetime(2025, 9, 24, 22, 22, 22, 222222, tzinfo=UTC)
"""A Wednesday of September, with two digits wherever there can be two."""

_MOST_BYTES = MAX_NAME_BYTES - len("p@")
_PREFIX, _FORMAT, _LOCATION = "prefix", "timestamp_format", "timestamp_location"


class NamingError(ScalarError):
    """No legal names come of it; `key` says what is to blame."""

    def __init__(self, key: str, message: str, accepted: str = "") -> None:
        super().__init__(message, accepted)
        self.key = key


@dataclass(frozen=True, slots=True)
class SnapshotNaming:
    """How a job names its snapshots; made by `checked`, so each name it gives is legal."""

    prefix: str
    timestamp_format: str
    timestamp_location: str

    @classmethod
    def checked(cls, prefix: str, timestamp_format: str, timestamp_location: str) -> Self:
        """The naming, tried on three days; NamingError when zrepl would refuse it, or no dataset's name
        leaves room for the snapshots'."""
        if not timestamp_format:
            message = "the format is empty, so all names would be the same"
            raise NamingError(_FORMAT, message, TIMESTAMP_WORDS)
        if "+" in timestamp_format:
            raise NamingError(_FORMAT, "`+` is not allowed in a snapshot name", TIMESTAMP_WORDS)
        try:
            load_zone(timestamp_location)
        except ScalarError as error:
            raise NamingError(_LOCATION, error.message, error.accepted) from None
        if timestamp_format.lower() in _UTC_ONLY and timestamp_location not in {"", "UTC"}:
            raise NamingError(
                _LOCATION,
                f"the format {timestamp_format!r} shows no zone, so it needs the location UTC",
                "UTC, or another timestamp_format",
            )
        try:
            check_snapshot_name(f"{prefix[:_MOST_BYTES]}0", "start of snapshot names")
        except InvalidName as error:
            raise NamingError(_PREFIX, f"would be an illegal {error}") from None
        naming = cls(prefix, timestamp_format, timestamp_location)
        if (size := len(naming.longest)) > _MOST_BYTES:
            time_bytes = size - len(prefix)
            raise NamingError(
                _PREFIX if len(prefix) > time_bytes else _FORMAT,
                f"names would have up to {size} bytes, {time_bytes} of them for the time, and with the "
                f"shortest name of a dataset there is room for {_MOST_BYTES}",
            )
        for day in (*_TRIAL_DAYS, _LONGEST):
            try:
                check_snapshot_name(naming.name(day))
            except InvalidName as error:
                message = f"prefix and time would give an illegal {error}"
                raise NamingError(_FORMAT, message, TIMESTAMP_WORDS) from None
        return naming

    @property
    def longest(self) -> str:
        """One of the longest names that it gives."""
        local = _LONGEST.replace(tzinfo=load_zone(self.timestamp_location))
        return max((self.name(day) for day in (*_TRIAL_DAYS, local)), key=len)

    def name(self, when: datetime, local: tzinfo | None = None) -> str:
        """The snapshot name for `when` (aware). `local` is the zone of the location `Local`; None: the
        process's own."""
        return self.prefix + self._stamp(when, local)

    @property
    def step(self) -> timedelta | None:
        """How much later another name comes: a second or a minute, None where the format shows neither."""
        for step in _STEPS:
            if all(self.name(day) != self.name(day + step) for day in _TRIAL_DAYS):
                return step
        return None

    def repeated(self) -> tuple[datetime, datetime] | None:
        """Two times that get the same name as the clocks go back, an hour apart mostly; None where
        the format tells them apart, or no clock goes back, or all names of a day are the same anyway."""
        zone = load_zone(self.timestamp_location)
        for turn, back in _turns_back(zone):
            before, after = turn - back / 2, turn + back / 2
            around = (before - back, after + back)
            name = self.name(before)
            if name == self.name(after) and name not in map(self.name, around):
                return before.astimezone(zone), after.astimezone(zone)
        return None

    def _stamp(self, when: datetime, local_zone: tzinfo | None) -> str:
        keyword = self.timestamp_format.lower()
        if keyword == "unix-seconds":
            return str(int(when.timestamp()))
        local = when.astimezone(load_zone(self.timestamp_location) or local_zone)
        text = go_format(local, _KEYWORDS.get(keyword, self.timestamp_format))
        # zrepl decides by today's offset and so panics half the year where the zone is at +0 now;
        # here the offset of the time itself counts.
        return text.replace("+", "_", 1)


def _turns_back(zone: tzinfo | None) -> Iterator[tuple[datetime, timedelta]]:
    """When the clocks of two sample years go back, and by how much."""

    def offset(when: datetime) -> timedelta:
        return when.astimezone(zone).utcoffset() or timedelta()

    for day in range(_SAMPLE_DAYS):
        early = _SAMPLE_START + timedelta(days=day)
        late = early + timedelta(days=1)
        back = offset(early) - offset(late)
        if back <= timedelta():
            continue
        while late - early > timedelta(minutes=1):
            middle = early + (late - early) / 2
            early, late = (early, middle) if offset(middle) == offset(late) else (middle, late)
        yield late.replace(second=0, microsecond=0), back


def go_format(when: datetime, layout: str) -> str:
    """`when` in Go's `Time.Format` with this layout (English names, microseconds at most)."""
    return _ELEMENT.sub(lambda match: _element(when, match[0]), layout)


def _element(when: datetime, element: str) -> str:
    match element:
        case "January" | "Jan":
            return _MONTHS.split()[when.month - 1][: None if len(element) > 3 else 3]
        case "Monday" | "Mon":
            return _WEEKDAYS.split()[when.weekday()][: None if len(element) > 3 else 3]
        case "MST":
            return when.tzname() or ""
        case "2006":
            return f"{when.year:04}"
        case "06":
            return f"{when.year % 100:02}"
        case "01" | "1":
            return _padded(when.month, element)
        case "02" | "2":
            return _padded(when.day, element)
        case "_2":
            return f"{when.day:2}"
        case "002":
            return f"{when.timetuple().tm_yday:03}"
        case "__2":
            return f"{when.timetuple().tm_yday:3}"
        case "15":
            return f"{when.hour:02}"
        case "03" | "3":
            return _padded(when.hour % 12 or 12, element)
        case "04" | "4":
            return _padded(when.minute, element)
        case "05" | "5":
            return _padded(when.second, element)
        case "PM" | "pm":
            return (("AM", "PM") if element == "PM" else ("am", "pm"))[when.hour >= 12]
        case _ if element[0] in "-Z":
            return _offset(when, element)
        case _:
            return _fraction(when, element)


def _padded(number: int, element: str) -> str:
    return f"{number:02}" if len(element) == 2 else str(number)


def _offset(when: datetime, element: str) -> str:
    seconds = round((when.utcoffset() or timedelta()).total_seconds())
    if element[0] == "Z" and seconds == 0:
        return "Z"
    sign = "-" if seconds < 0 else "+"
    hours, rest = divmod(abs(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    colon = ":" if ":" in element else ""
    digits = len(element.replace(":", "")) - 1
    parts = [f"{hours:02}", f"{minutes:02}", f"{seconds:02}"][: digits // 2]
    return sign + colon.join(parts)


def _fraction(when: datetime, element: str) -> str:
    digits = f"{when.microsecond:06}000"[: len(element) - 1].ljust(len(element) - 1, "0")
    if element[1] == "9":
        digits = digits.rstrip("0")
        return element[0] + digits if digits else ""
    return element[0] + digits
