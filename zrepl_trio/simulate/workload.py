"""How much is written to a dataset, and what of it is still there. Pure.

A dataset's *position* counts the bytes ever written to it. Part of what is written takes the place of
older data, any of it with the same likelihood; the rest is new. So two positions say all that the model
needs: how many of the bytes written between them are still there at the second, which is the size of
an increment, and, summed over the snapshots that are kept, what these take up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Protocol

from zrepl_trio.config.scalars import ScalarError, parse_size
from zrepl_trio.errors import UsageRefused

__all__ = [
    "DEFAULT",
    "WORKLOAD_WORDS",
    "Workload",
    "WorkloadSpec",
    "Written",
    "kept_bytes",
    "parse_days",
    "parse_workload",
]

WORKLOAD_WORDS = (
    "[HOST:]DATASET [writes=SIZE an hour] [rewrites=PERCENT%] [holds=SIZE] [hours=FROM-TO] [days=DAY-DAY], "
    "such as 'app-srv:tank/data writes=500MiB rewrites=80% holds=50GiB hours=8-18 days=mon-fri'; "
    "DATASET * sets what is not given for others"
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_GIB = 2**30
_HOUR_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`writes` bytes are written in an hour, half to one and a half times as many in any one;
    `rewrites` of them (0 to 1) over what is there; `holds` bytes are there at first. Only in those `hours` of
    the day (first, end) and on those `days` (0 Monday)."""

    writes: float = 64 * 2**20
    rewrites: float = 0.8
    holds: float = 20 * _GIB
    hours: tuple[int, int] = (0, 24)
    days: frozenset[int] = frozenset(range(7))

    def live(self, position: float) -> float:
        """Bytes in the dataset itself."""
        return self.holds + (1 - self.rewrites) * position

    def survives(self, first: float, second: float) -> float:
        """Bytes written between these two positions that are there at the second."""
        written = second - first
        if written <= 0:
            return 0.0
        before = self.live(first)
        if before <= 0:
            # all there is was written since
            return self.live(second) if self.rewrites < 1 else 0.0
        if self.rewrites >= 1:
            return before * -math.expm1(-written / before)
        after = self.live(second)
        grown = -self.rewrites / (1 - self.rewrites) * math.log1p((after - before) / before)
        return after - before * math.exp(grown)

    def active(self, hour: datetime) -> bool:
        """Whether anything is written in the hour that begins then."""
        first, end = self.hours
        of_day = hour.hour
        inside = first <= of_day < end if first < end else of_day >= first or of_day < end
        return inside and hour.weekday() in self.days


DEFAULT = Workload()


class Uniform(Protocol):
    """Where chance comes from: a seeded `random.Random`, say."""

    def uniform(self, a: float, b: float, /) -> float: ...


@dataclass(slots=True)
class Written:
    """One dataset's position over time, by random numbers of its own; `zone` is that of `hours`."""

    workload: Workload
    rng: Uniform
    start: datetime
    zone: tzinfo
    _sums: list[float] = field(default_factory=lambda: [0.0])

    def at(self, seconds: float) -> int:
        """The position so many seconds after the start."""
        hour, rest = divmod(seconds, _HOUR_S)
        index = int(hour)
        sums = self._sums
        while len(sums) <= index + 1:
            begins = self.start + timedelta(hours=len(sums) - 1)
            share = self.rng.uniform(0.5, 1.5)
            amount = self.workload.writes * share
            if not self.workload.active(begins.astimezone(self.zone)):
                amount = 0.0
            sums.append(sums[-1] + amount)
        return int(sums[index] + (sums[index + 1] - sums[index]) * rest / _HOUR_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """What one --workload says, in `text`; `host` None: that one which has the dataset, `dataset` None: all
    others."""

    text: str
    host: str | None
    dataset: str | None
    given: tuple[tuple[str, object], ...]

    def on(self, workload: Workload) -> Workload:
        """`workload` with what was given in the place of its own."""
        values = {
            "writes": workload.writes,
            "rewrites": workload.rewrites,
            "holds": workload.holds,
            "hours": workload.hours,
            "days": workload.days,
        } | dict(self.given)
        return Workload(**values)  # type: ignore[arg-type]


def parse_workload(text: str) -> WorkloadSpec:
    """UsageRefused, with the grammar, for what is none."""
    where, *settings = text.split() or [""]
    host, colon, dataset = where.rpartition(":")
    if not dataset or "=" in where:
        raise UsageRefused(f"--workload {text!r} names no dataset (accepted: {WORKLOAD_WORDS})")
    given: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in _READERS or key in given:
            raise UsageRefused(
                f"--workload {text!r}: what is {setting!r}? (accepted: {WORKLOAD_WORDS})"
            )
        try:
            given[key] = _READERS[key](value)
        except ValueError as error:
            raise UsageRefused(
                f"--workload {text!r}: {key}={value}: {error} (accepted: {WORKLOAD_WORDS})"
            ) from None
    return WorkloadSpec(
        text=text,
        host=host if colon else None,
        dataset=None if dataset == "*" else dataset,
        given=tuple(given.items()),
    )


def _size(text: str) -> float:
    try:
        bits = parse_size(text if not text.isdecimal() else f"{text} B")
    except ScalarError as error:
        raise ValueError(error.message) from None
    if bits < 0:
        raise ValueError("is negative")
    return bits / 8


def _percent(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,3})%", text, re.ASCII)
    if match is None or int(match[1]) > 100:
        raise ValueError("is no percentage from 0% to 100%")
    return int(match[1]) / 100


def _hours(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", text, re.ASCII)
    if match is None or int(match[1]) > 23 or int(match[2]) > 24 or int(match[1]) == int(match[2]):
        raise ValueError("is no range of hours such as 8-18 or 22-6")
    return int(match[1]), int(match[2])


def parse_days(text: str) -> frozenset[int]:
    """0 for Monday and so on, of `mon-fri`, `sat,sun`, or both kinds together. Raises ValueError."""
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError("is no list of days such as mon-fri or sat,sun")
        begin = DAYS.index(first)
        count = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + each) % 7 for each in range(count + 1)}
    return frozenset(found)


_READERS = {
    "writes": _size,
    "rewrites": _percent,
    "holds": _size,
    "hours": _hours,
    "days": parse_days,
}


def kept_bytes(workload: Workload, positions: Sequence[int], live: int | None) -> float:
    """What snapshots at these positions, in order, take up together with the dataset itself at
    position `live` (None: there is nothing but the snapshots)."""
    total = 0.0
    points = [*positions, *([live] if live is not None else [])]
    for index, point in enumerate(points):
        total += workload.survives(points[index - 1], point) if index else workload.live(point)
    return total
