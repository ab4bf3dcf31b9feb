"""When links between hosts are down. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from zrepl_trio.errors import UsageRefused
from zrepl_trio.simulate.spans import parse_span
from zrepl_trio.simulate.workload import parse_days

__all__ = ["OUTAGE_WORDS", "Outage", "Windows", "check_links", "parse_outage"]

OUTAGE_WORDS = (
    "link A-B [every N weeks] DAY HH:MM for SPAN, or link A-B YYYY-MM-DD [HH:MM] for SPAN; DAY is daily, mon to sun, or "
    "several such as sat,sun or mon-fri; such as 'link app-srv-backup-srv every 2 weeks sat 00:00 for 48h'"
)

_OUTAGE = re.compile(
    r"link\s+(?P<link>\S+)\s+"
    r"(?:(?:every\s+(?P<weeks>[0-9]{1,3})\s+weeks?\s+)?(?P<days>daily|[a-z]{3}(?:[,-][a-z]{3})*)\s+(?P<at>[0-9:]+)"
    r"|(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:\s+(?P<time>[0-9:]+))?)"
    r"\s+for\s+(?P<span>\S+)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The link between those two hosts is down for `lasts_s` seconds: once at `day`, or on those `days`
    of each `every`th week, counted from that of the start, from `at` in the local zone. `text` says so."""

    text: str
    hosts: frozenset[str]
    at: time
    lasts_s: int
    day: date | None = None
    days: frozenset[int] = frozenset()
    every: int = 1

    def windows(
        self, start: datetime, end: datetime, zone: tzinfo
    ) -> list[tuple[datetime, datetime]]:
        """Its times between start and end; those that began before are cut."""
        first = (start - timedelta(seconds=self.lasts_s)).astimezone(zone).date()
        last = end.astimezone(zone).date()
        found = []
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            if self._on(day, start.astimezone(zone).date()):
                begins = datetime.combine(day, self.at, zone).astimezone(UTC)
                ends = begins + timedelta(seconds=self.lasts_s)
                if begins < end and ends > start:
                    found.append((max(begins, start), min(ends, end)))
        return found

    def _on(self, day: date, start: date) -> bool:
        if self.day is not None:
            return day == self.day
        monday = start - timedelta(days=start.weekday())
        week = (day - monday).days // 7
        return day.weekday() in self.days and week % self.every == 0


def parse_outage(text: str, hosts: Sequence[str]) -> Outage:
    """UsageRefused, with what is accepted, for what is none, or names a host that is not one of `hosts`."""
    match = _OUTAGE.fullmatch(text.strip())
    if match is None:
        raise UsageRefused(f"--outage {text!r} cannot be read (accepted: {OUTAGE_WORDS})")
    lasts_s = parse_span(match["span"], f"--outage {text!r}")
    names = _ends(match["link"], hosts, text)
    if match["date"]:
        try:
            day = date.fromisoformat(match["date"])
        except ValueError as error:
            raise UsageRefused(f"--outage {text!r}: {error}") from None
        at = _time(match["time"] or "00:00", text)
        return Outage(text=text, hosts=names, at=at, lasts_s=lasts_s, day=day)
    words = match["days"].lower()
    try:
        days = parse_days("mon-sun" if words == "daily" else words)
    except ValueError as error:
        raise UsageRefused(
            f"--outage {text!r}: {words!r} {error} (accepted: {OUTAGE_WORDS})"
        ) from None
    every = int(match["weeks"] or 1)
    if not every:
        raise UsageRefused(f"--outage {text!r}: every 0 weeks is never")
    return Outage(
        text=text,
        hosts=names,
        at=_time(match["at"], text),
        lasts_s=lasts_s,
        days=days,
        every=every,
    )


def _time(text: str, outage: str) -> time:
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise UsageRefused(f"--outage {outage!r}: {text!r} is no time of day such as 08:30")
    return time(int(match[1]), int(match[2]))


def _ends(link: str, hosts: Sequence[str], outage: str) -> frozenset[str]:
    """The two hosts; names may hold dashes themselves."""
    found = {
        frozenset({one, other}): f"{one} and {other}"
        for one in hosts
        for other in hosts
        if one != other and link == f"{one}-{other}"
    }
    if not found:
        raise UsageRefused(
            f"--outage {outage!r}: there is no link {link!r}; the hosts are {', '.join(hosts)}"
        )
    if len(found) > 1:
        raise UsageRefused(
            f"--outage {outage!r}: {link!r} may be that of {', or that of '.join(found.values())}: give a host "
            "another name, as in NAME=FILE"
        )
    (names,) = found
    return names


def check_links(outages: Iterable[Outage], links: Collection[frozenset[str]]) -> None:
    """UsageRefused for an outage between two hosts that no job of `links`, each by its ends, connects."""
    for outage in outages:
        if outage.hosts not in links:
            there = sorted("-".join(sorted(link)) for link in links if len(link) == 2)
            raise UsageRefused(
                f"--outage {outage.text!r}: no job connects {' and '.join(sorted(outage.hosts))}; the links are "
                f"{', '.join(there) or 'none'}"
            )


class Windows:
    """Times, in seconds from the start, that may overlap; to be asked about many moments."""

    def __init__(self, windows: Iterable[tuple[float, float]]) -> None:
        self.merged: list[tuple[float, float]] = []
        for begin, end in sorted(windows):
            if self.merged and begin <= self.merged[-1][1]:
                self.merged[-1] = (self.merged[-1][0], max(end, self.merged[-1][1]))
            else:
                self.merged.append((begin, end))
        self._begins = [begin for begin, _ in self.merged]

    def until(self, seconds: float) -> float | None:
        """When the window ends that this moment is in; None when it is in none."""
        index = bisect_right(self._begins, seconds) - 1
        if index < 0:
            return None
        end = self.merged[index][1]
        return end if seconds < end else None
