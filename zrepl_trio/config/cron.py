"""Cron specs in zrepl's dialect (robfig/cron v3), turned into one that `cronsim` runs.

The dialects differ: 7 is no Sunday, `N/STEP` runs to the end of the range, `?` is `*`, and a day
field counts as free only if it is `*` or `?` with a step of at most 1 (`*/2` restricts). Fields
are therefore expanded here; cronsim gets plain lists, or `*` where the field is free.
"""

from __future__ import annotations

import re
import zoneinfo
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple, Self

from cronsim import CronSim, CronSimError

from zrepl_trio.config.scalars import ScalarError

__all__ = ["CRON_WORDS", "CronSpec", "load_zone"]

CRON_WORDS = (
    "five fields `minute hour day month weekday`, six with seconds in front, such as "
    '"*/15 * * * *" (in quotes), optionally behind `CRON_TZ=Zone `'
)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 6, _DAYS),
)
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)", re.DOTALL)

# Long enough for 29 February on one given weekday (28 years, 40 over a skipped leap year).
_SEARCH_FROM = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CronSpec:
    """A checked spec: `text` as written, `expression` for cronsim, `zone` (None: local time)."""

    text: str
    expression: str
    zone: str | None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Self:
        """The spec in `text`; ScalarError names the field that is wrong, or that it never fires."""
        zone, rest = None, text
        if text.startswith(("TZ=", "CRON_TZ=")):
            match = _ZONE.fullmatch(text)
            if match is None:
                raise ScalarError(f"{text!r} has a zone and no fields", CRON_WORDS)
            zone, rest = match[1], match[2]
            load_zone(zone)
        if rest.lstrip().startswith("@"):
            raise ScalarError(f"{text!r}: descriptors such as @daily are not supported", CRON_WORDS)
        parts = rest.split()
        if len(parts) not in {5, 6}:
            raise ScalarError(f"{text!r} has {len(parts)} fields", CRON_WORDS)
        fields = _FIELDS[-len(parts) :]
        expression = " ".join(
            _expand(field, part) for field, part in zip(fields, parts, strict=True)
        )
        spec = cls(text, expression, zone)
        if not _ever_fires(expression):
            raise ScalarError(f"{text!r} never comes", CRON_WORDS)
        return spec

    def times_after(self, now: datetime) -> Iterator[datetime]:
        """The firing times after `now` (aware), in the spec's zone or, without one, in `now`'s."""
        zone = (load_zone(self.zone) if self.zone is not None else None) or now.tzinfo or UTC
        times = _once if self._once else _each
        found = times(self.expression, now.astimezone(zone), zone)
        return (when.astimezone(zone) for when in found)

    @property
    def _once(self) -> bool:
        """Whether each time of the day comes once, as in Debian's cron: those of five fields that are bound to
        minutes and hours."""
        fields = self.expression.split()
        return len(fields) == 5 and "*" not in fields[:2]


def load_zone(name: str) -> tzinfo | None:
    """The zone as Go's LoadLocation reads it: empty and `UTC` are UTC, `Local` is None."""
    if name in {"", "UTC"}:
        return UTC
    if name == "Local":
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ScalarError(
            f"{name!r} is not a time zone of this system", "UTC, Local or an IANA name"
        ) from None


# cronsim goes by the wall clock alone, which has neither gaps nor hours that come twice; it knows of
# clocks that are put by whole hours only.


def _once(expression: str, now: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The times after `now`, in UTC. One that the clocks jump over comes as they have, one that they
    show twice the first time."""
    last = now
    for shown in CronSim(expression, now.replace(tzinfo=None)):
        when = _moment(shown, zone)
        while when is None:
            shown += timedelta(minutes=1)  # to the first minute that there is
            when = _moment(shown, zone)
        if when > last:
            yield when
            last = when


def _each(expression: str, now: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The times after `now`, in UTC: whenever the clocks show them, so not at all or twice as they are put."""
    start = now.replace(tzinfo=None)
    again = _moment(start, zone, fold=1)
    if again is not None and again > now:  # what was shown before comes again
        start -= again - now.replace(microsecond=0)
    later: deque[datetime] = deque()
    for shown in CronSim(expression, start):
        first = _moment(shown, zone)
        second = _moment(shown, zone, fold=1)
        if first is None or second is None:
            continue
        while later and later[0] < first:
            yield later.popleft()
        if first > now:
            yield first
        if second > max(first, now):
            later.append(second)
    yield from later


def _moment(shown: datetime, zone: tzinfo, *, fold: int = 0) -> datetime | None:
    """When (UTC) the clocks of the zone show this, the first time or the second; None if they jump over it."""
    when = shown.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    return when if when.astimezone(zone).replace(tzinfo=None) == shown else None


def _ever_fires(expression: str) -> bool:
    try:
        return next(CronSim(expression, _SEARCH_FROM), None) is not None
    except CronSimError:
        return False


def _expand(field: _Field, text: str) -> str:
    values: set[int] = set()
    free = False
    terms = list(filter(None, text.split(",")))  # as in robfig, `1,,2` is `1,2`
    if not terms:
        raise ScalarError(f"{field.name} {text!r} has no term", CRON_WORDS)
    for term in terms:
        found, star = _term(field, term)
        values |= found
        free = free or star
    if free:
        return "*"
    return ",".join(map(str, sorted(values)))


def _term(field: _Field, term: str) -> tuple[set[int], bool]:
    span, slash, step_text = term.partition("/")
    step = 1
    if slash:
        step = int(step_text) if _NUMBER.fullmatch(step_text) else 0
        if step < 1:
            raise ScalarError(
                f"{field.name} {term!r}: the step must be a number from 1", CRON_WORDS
            )
    low_text, dash, high_text = span.partition("-")
    if low_text in {"*", "?"}:
        if dash:
            raise ScalarError(f"{field.name} {term!r} is not a range", CRON_WORDS)
        return set(range(field.low, field.high + 1, step)), step == 1
    low = _value(field, term, low_text)
    if dash:
        high = _value(field, term, high_text)
        if high < low:
            raise ScalarError(f"{field.name} {term!r}: the range runs backwards", CRON_WORDS)
    else:
        high = field.high if slash else low
    return set(range(low, high + 1, step)), False


def _value(field: _Field, term: str, text: str) -> int:
    if text.lower() in field.words:
        return field.words.index(text.lower()) + field.low
    number = int(text) if _NUMBER.fullmatch(text) else -1
    if not field.low <= number <= field.high:
        names = f" or {field.words[0]}…{field.words[-1]}" if field.words else ""
        raise ScalarError(
            f"{field.name} {term!r} is out of range", f"{field.low} to {field.high}{names}"
        )
    return number
