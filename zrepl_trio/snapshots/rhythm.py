"""When snapshots are taken. Pure. Behaviour reference 6.1 and 6.2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile

from zrepl_trio.config.cron import CronSpec
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, in_order
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["MOST_PASSED", "SyncPoint", "newest_named", "next_firing", "passed", "sync_point"]

MOST_PASSED = 100
"""How far times that passed are counted: a spec of every second has many."""


@valueclass(frozen=True, slots=True, kw_only=True)
class SyncPoint:
    """When a daemon that starts takes its first snapshots, so that it goes on in the rhythm of those
    that are there. `waiting` are filesystems without any, which wait as well; `ahead` those whose
    newest snapshot is of the future, which tells nothing about the rhythm."""

    at: datetime
    waiting: tuple[DatasetPath, ...] = ()
    ahead: tuple[DatasetPath, ...] = ()


def newest_named(versions: Iterable[FilesystemVersion], prefix: str) -> FilesystemVersion | None:
    """The newest snapshot, by createtxg, whose name starts so. As in zrepl, `zrepl_` means
    `zrepl_weekly_…` too."""
    named = [v for v in in_order(versions) if v.is_snapshot and v.name.startswith(prefix)]
    return named[-1] if named else None


def sync_point(
    newest: Mapping[DatasetPath, FilesystemVersion | None], interval_s: float, now: datetime
) -> SyncPoint:
    """From each filesystem's newest snapshot of the job: the earliest of their times plus the interval,
    `now` where that has passed, or where there are none."""
    ahead = [path for path, v in newest.items() if v is not None and v.creation > now.timestamp()]
    due = [
        datetime.fromtimestamp(v.creation, UTC) + timedelta(seconds=interval_s)
        for path, v in newest.items()
        if v is not None and path not in ahead
    ]
    return SyncPoint(
        at=max(min(due, default=now), now),
        waiting=tuple(path for path, v in newest.items() if v is None),
        ahead=tuple(ahead),
    )


def next_firing(spec: CronSpec, now: datetime, local: tzinfo) -> datetime:
    """The spec's first time after `now`, in UTC; `local` is the zone of a spec that names none."""
    return next(spec.times_after(now.astimezone(local))).astimezone(UTC)


def passed(spec: CronSpec, start: datetime, now: datetime, local: tzinfo) -> list[datetime]:
    """The spec's times after `start` up to `now`, the first MOST_PASSED of them, in the spec's zone."""
    times = spec.times_after(start.astimezone(local))
    return list(islice(takewhile(lambda when: when <= now, times), MOST_PASSED))
