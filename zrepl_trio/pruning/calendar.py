"""Which snapshots a `calendar` rule keeps. Pure.

Of each hour, day, week, month or year the *first* snapshot stays, as in a grid's bucket: so what was once
chosen is not given up for a later one. Only periods that have a snapshot are counted, so that a
host that was off for a season loses none for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from typing import TypeAlias

from zrepl_trio.config.cron import load_zone
from zrepl_trio.config.keep import KeepCalendar
from zrepl_trio.zfs.model import date_of

__all__ = ["calendar_keeps"]

_Period: TypeAlias = Callable[[datetime], object]


def _hour(at: datetime) -> object:
    # with the offset: when the clock is set back, an hour comes twice
    return at.year, at.month, at.day, at.hour, at.utcoffset()


def _day(at: datetime) -> object:
    return at.date()


def _week(at: datetime) -> object:
    return at.isocalendar()[:2]


def _month(at: datetime) -> object:
    return at.year, at.month


def _year(at: datetime) -> object:
    return at.year


def calendar_keeps(creations: Sequence[int], rule: KeepCalendar, local: tzinfo) -> set[int]:
    """The indexes of those that stay; `creations` in seconds since the epoch, `local` is the zone that
    the rule calls Local. The newest always stays, of several of one second the last in the list."""
    if not creations:
        return set()
    zone = load_zone(rule.timezone) or local
    order = sorted(range(len(creations)), key=lambda index: creations[index])
    times = {index: date_of(creations[index]).astimezone(zone) for index in order}
    kept = {order[-1]}
    counts: tuple[tuple[int, _Period], ...] = (
        (rule.hourly, _hour),
        (rule.daily, _day),
        (rule.weekly, _week),
        (rule.monthly, _month),
        (rule.yearly, _year),
    )
    for count, period in counts:
        first: dict[object, int] = {}
        if count:
            for index in order:
                first.setdefault(period(times[index]), index)
            kept.update(list(first.values())[-count:])
    return kept
