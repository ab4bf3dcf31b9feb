"""What is allowed and still hardly meant: remarks that `configcheck` and the daemon show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from zrepl_trio.config.base import Section
from zrepl_trio.config.explain import Loc
from zrepl_trio.config.keep import KeepGrid, KeepNotReplicated, KeepRegex, KeepRule, keeps_all
from zrepl_trio.config.model import Config, PullJob, PushJob, SinkJob, SnapJob, SourceJob
from zrepl_trio.config.overlaps import overlaps
from zrepl_trio.config.rules import CronSnapshotting, ManualSnapshotting, PeriodicSnapshotting
from zrepl_trio.config.scalars import format_duration

__all__ = ["advice_on"]

# A Go duration below this was a bare number: nanoseconds. No network answers that fast.
_TOO_SHORT_S = 1e-3
_GO_DURATIONS = ("dial_timeout", "handshake_timeout", "timeout", "retry_interval")
_PATHS = ("identity_file", "ca", "cert", "key", "sockpath", "sockdir", "path")

_SOME_DAY = datetime(2024, 6, 3, tzinfo=UTC)
_PARTS_S = (12 * 3600, 24 * 3600)
_FAR_S = 366 * 24 * 3600
_FOLLOWING = 50

_NEWEST_GOES = (
    "the first bucket keeps its oldest snapshots, so the newest one can go; begin with a bucket "
    "of keep=all, such as 1x1h(keep=all)"
)

_NEVER_PRUNED = (
    "with `protection: {incremental: guarantee_nothing}` there is no replication cursor, and without it "
    "nothing is destroyed on either side"
)

_NAMES_NOTHING = (
    "nothing goes unasked, and no max_count or max_age helps: the job takes no snapshots itself, and no "
    "rule names any that may go; add one that does, with the snapshots' prefix, such as "
    '{type: last_n, count: 1, regex: "^zrepl_"}, or set `foreign: destroy`'
)


def advice_on(config: Config) -> Iterator[tuple[Loc, str]]:
    """Where, and what."""
    yield from _sections((), config)
    for index, job in enumerate(config.jobs):
        loc: Loc = ("jobs", index)
        match job:
            case PushJob() | PullJob():
                yield from _rules((*loc, "pruning", "keep_sender"), job.pruning.keep_sender)
                receiver: Loc = (*loc, "pruning", "keep_receiver")
                yield from _rules(receiver, job.pruning.keep_receiver)
                for position, rule in enumerate(job.pruning.keep_receiver):
                    if isinstance(rule, KeepNotReplicated):
                        yield (
                            (*receiver, position),
                            "does nothing here: what the receiver has is replicated",
                        )
                if job.replication.protection.incremental == "guarantee_nothing" and not (
                    keeps_all(job.pruning.keep_sender) and keeps_all(job.pruning.keep_receiver)
                ):
                    yield (*loc, "pruning"), _NEVER_PRUNED
            case SnapJob():
                yield from _rules((*loc, "pruning", "keep"), job.pruning.keep)
            case SinkJob() | SourceJob():
                pass
        if isinstance(job, SourceJob | PushJob | SnapJob):
            yield from _names((*loc, "snapshotting"), job.snapshotting)
        if isinstance(job, SourceJob | PushJob | SnapJob) and job.filesystems.rejects_all:
            yield (*loc, "filesystems"), "no entry is true, so no filesystem is meant"
    between = list(overlaps(config))
    told = {loc for loc, _ in between}
    yield from ((loc, _NAMES_NOTHING) for loc in _naming_nothing(config) if loc not in told)
    yield from between


def _rules(loc: Loc, rules: tuple[KeepRule, ...]) -> Iterator[tuple[Loc, str]]:
    kept = any(not isinstance(rule, KeepGrid) for rule in rules)
    for index, rule in enumerate(rules):
        if isinstance(rule, KeepGrid) and rule.grid.may_drop_newest and not kept:
            yield (*loc, index, "grid"), _NEWEST_GOES


def _naming_nothing(config: Config) -> Iterator[Loc]:
    """Lists of rules by which all that is let go is foreign to the job, though something is to go."""
    for index, job in enumerate(config.jobs):
        loc: Loc = ("jobs", index, "pruning")
        if not isinstance(job, PushJob | PullJob | SnapJob) or job.pruning.foreign == "destroy":
            continue
        if not isinstance(job, PullJob) and not isinstance(job.snapshotting, ManualSnapshotting):
            continue
        lists = (
            {"keep": job.pruning.keep}
            if isinstance(job, SnapJob)
            else {
                "keep_sender": job.pruning.keep_sender,
                "keep_receiver": job.pruning.keep_receiver,
            }
        )
        for key, rules in lists.items():
            if not keeps_all(rules) and not any(map(_names_what_may_go, rules)):
                yield (*loc, key)


def _names_what_may_go(rule: KeepRule) -> bool:
    match rule:
        case KeepNotReplicated():
            return False
        case KeepRegex():
            return rule.negate
        case _:
            return True


def _names(loc: Loc, snapshotting: object) -> Iterator[tuple[Loc, str]]:
    if not isinstance(snapshotting, CronSnapshotting | PeriodicSnapshotting):
        return
    again = _same_name(snapshotting)
    twice = snapshotting.naming.repeated() if again is None else None
    if again is not None:
        first, second = again
        said = (
            f"names come again: {first:%a %H:%M:%S} and {_later(second - first)} later give both "
            f"{snapshotting.naming.name(first)!r}, and as long as the first snapshot is there, the second one "
            "fails or is named by another time: show the date, and the time to the second, as human does"
        )
        yield (*loc, "timestamp_format"), said
    if twice is not None:
        first, second = twice
        offset = f"{snapshotting.timestamp_format}-0700"
        said = (
            f"shows no offset, so as the clocks go back in {snapshotting.timestamp_location}, names come "
            f"twice and the second snapshot fails ({first.isoformat()} and {second.isoformat()}): add "
            f"the offset, as in {offset!r}, or set timestamp_location: UTC"
        )
        yield (*loc, "timestamp_format"), said


def _same_name(
    snapshotting: CronSnapshotting | PeriodicSnapshotting,
) -> tuple[datetime, datetime] | None:
    """Two of the times of the snapshots that get one name, far from where clocks are put: two that follow
    each other, or are half a day or whole days apart."""
    name = snapshotting.naming.name
    if isinstance(snapshotting, CronSnapshotting):
        pairs = _firings(snapshotting)
    else:
        pairs = _beats(snapshotting)
    for first, second in pairs:
        if name(first) == name(second):
            return first, second
    return None


def _beats(snapshotting: PeriodicSnapshotting) -> Iterator[tuple[datetime, datetime]]:
    interval_s = max(1, round(snapshotting.interval))
    # whenever the daemon was started: at midnight, say, or in the middle of a day
    for start in (_SOME_DAY, _SOME_DAY + timedelta(hours=10)):
        for later_s in (interval_s, *(math.lcm(interval_s, part) for part in _PARTS_S)):
            if later_s <= _FAR_S:
                yield start, start + timedelta(seconds=later_s)


def _firings(snapshotting: CronSnapshotting) -> Iterator[tuple[datetime, datetime]]:
    times = list(islice(snapshotting.cron.times_after(_SOME_DAY), _FOLLOWING))
    yield from pairwise(times)
    for part_s in _PARTS_S:
        for first in times[:1]:
            second = first + timedelta(seconds=part_s)
            if next(snapshotting.cron.times_after(second - timedelta(seconds=1)), None) == second:
                yield first, second


def _later(apart: timedelta) -> str:
    return format_duration(apart.total_seconds())


def _sections(loc: Loc, value: object) -> Iterator[tuple[Loc, str]]:
    """Visits every section for what depends on the key's name alone."""
    if isinstance(value, Section):
        for name, info in type(value).model_fields.items():
            if name in value.model_fields_set:
                yield from _key((*loc, info.alias or name), name, getattr(value, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _sections((*loc, index), item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _sections((*loc, key), item)


def _key(loc: Loc, name: str, value: object) -> Iterator[tuple[Loc, str]]:
    if name in _GO_DURATIONS and isinstance(value, float) and 0 < value < _TOO_SHORT_S:
        number = round(value * 1e9)
        yield loc, f"is {number} nanoseconds, as a bare number is; {number}s would be seconds"
    elif name in _PATHS and isinstance(value, str) and not value.startswith("/"):
        yield loc, f"{value!r} is relative to the daemon's working directory; write it from `/` on"
    else:
        yield from _sections(loc, value)
