"""When snapshots are taken: sync-up to those that are there, and cron through the seasons."""

from __future__ import annotations

import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import trio

from tests.jobs.clocks import FollowingClock
from tests.replication.notation import path
from zrepl_trio.clock import local_zone
from zrepl_trio.config.cron import CronSpec
from zrepl_trio.moments import RECHECK_S, Moment, until_shown
from zrepl_trio.snapshots.rhythm import MOST_PASSED, newest_named, next_firing, passed, sync_point
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
INTERVAL_S = 600.0


def snapshot(
    name: str, minutes: float, createtxg: int = 1, kind: VersionKind = VersionKind.SNAPSHOT
) -> FilesystemVersion:
    """Taken so many minutes before NOW."""
    creation = int(NOW.timestamp() - minutes * 60)
    return FilesystemVersion(
        kind=kind, name=name, guid=createtxg, createtxg=createtxg, creation=creation
    )


def test_the_newest_of_the_job_is_told_by_createtxg_and_prefix() -> None:
    versions = [
        snapshot("zrepl_1", 30, createtxg=5),
        snapshot("zrepl_2", 40, createtxg=6),
        snapshot("other", 1, createtxg=7),
        snapshot("zrepl_3", 1, createtxg=8, kind=VersionKind.BOOKMARK),
    ]
    found = newest_named(versions, "zrepl_")
    assert found is not None
    assert found.name == "zrepl_2"
    assert newest_named(versions, "x") is None


@pytest.mark.parametrize(
    ("minutes_ago", "due_in"),
    [
        ({}, 0),
        ({"a": None}, 0),
        ({"a": 4}, 6),
        ({"a": 4, "b": 7}, 3),
        ({"a": 4, "b": None}, 6),
        ({"a": 25}, 0),  # overdue
        ({"a": 4, "b": -5}, 6),  # of the future
        ({"a": -5}, 0),
    ],
)
def test_the_earliest_rhythm_is_gone_on_with(
    minutes_ago: dict[str, float | None], due_in: float
) -> None:
    newest = {
        path(f"tank/{name}"): None if ago is None else snapshot("z", ago)
        for name, ago in minutes_ago.items()
    }
    point = sync_point(newest, INTERVAL_S, NOW)
    assert point.at == NOW + timedelta(minutes=due_in)
    assert len(point.waiting) == list(minutes_ago.values()).count(None)
    assert len(point.ahead) == sum(ago is not None and ago < 0 for ago in minutes_ago.values())


BERLIN = ZoneInfo("Europe/Berlin")


def firings(spec: str, start: datetime, count: int) -> list[str]:
    found = []
    for _ in range(count):
        start = next_firing(CronSpec.parse(spec), start, BERLIN)
        found.append(start.strftime("%d %H:%M"))
    return found


def test_a_time_of_day_is_one_of_the_local_zone_in_any_season() -> None:
    summer = datetime(2024, 3, 30, 12, tzinfo=UTC)  # it begins on the 31st at 01:00 UTC
    assert firings("0 6 * * *", summer, 2) == ["31 04:00", "01 04:00"]
    winter = datetime(2024, 10, 26, 12, tzinfo=UTC)
    assert firings("0 6 * * *", winter, 2) == ["27 05:00", "28 05:00"]
    assert firings("CRON_TZ=UTC 0 6 * * *", winter, 2) == ["27 06:00", "28 06:00"]
    assert firings("CRON_TZ=Local 0 6 * * *", summer, 2) == ["31 04:00", "01 04:00"]


def test_every_quarter_goes_on_through_the_hour_that_comes_twice() -> None:
    before = datetime(2024, 10, 27, 0, 20, tzinfo=UTC)
    found = firings("*/15 * * * *", before, 9)
    assert len(set(found)) == 9
    assert found[0] == "27 00:30"
    assert found[-1] <= "27 03:00"


def test_times_that_passed_are_counted_up_to_a_limit() -> None:
    spec = CronSpec.parse("0 * * * *")
    found = passed(spec, NOW, NOW + timedelta(hours=3), BERLIN)
    assert [when.isoformat() for when in found] == [
        f"2024-05-06T{hour}:00:00+02:00" for hour in (15, 16, 17)
    ]
    assert passed(spec, NOW, NOW + timedelta(minutes=59), BERLIN) == []
    every_second = CronSpec.parse("* * * * * *")
    assert len(passed(every_second, NOW, NOW + timedelta(days=9), BERLIN)) == MOST_PASSED


def test_the_local_zone_has_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    summer, winter = datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    zone = local_zone()
    assert summer.astimezone(zone).utcoffset() == timedelta(hours=-4)
    assert winter.astimezone(zone).utcoffset() == timedelta(hours=-5)


@pytest.mark.parametrize(
    ("value", "summer_h", "winter_h"),
    [
        ("Europe/Berlin", 2, 1),
        (":Europe/Berlin", 2, 1),
        ("FILE", 2, 1),
        (":FILE", 2, 1),
        ("JST-9", 9, 9),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 2, 1),
        ("<+0330>-3:30", 3.5, 3.5),
        ("", 0, 0),
        ("No/Where", 0, 0),
        ("/no/where", 0, 0),
        ("../../etc/passwd", 0, 0),
    ],
)
def test_what_tz_says_holds_as_in_the_c_library(
    monkeypatch: pytest.MonkeyPatch, value: str, summer_h: float, winter_h: float
) -> None:
    files = [Path(each, "Europe/Berlin") for each in zoneinfo.TZPATH]
    file = next(each for each in files if each.exists())
    monkeypatch.setenv("TZ", value.replace("FILE", str(file)))
    expected = [timedelta(hours=summer_h), timedelta(hours=winter_h)]
    moments = [datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]
    zone = local_zone()
    assert [when.astimezone(zone).utcoffset() for when in moments] == expected
    try:
        time.tzset()
        assert [when.astimezone().utcoffset() for when in moments] == expected
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_a_suspend_delays_by_one_recheck(autojump_clock: trio.abc.Clock) -> None:
    clock = FollowingClock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Moment.after(3600, clock).come, clock)
        await trio.sleep(5)
        clock.offset_s = 3600
    assert trio.current_time() <= 5 + RECHECK_S


async def test_a_clock_set_back_puts_off_no_interval(autojump_clock: trio.abc.Clock) -> None:
    clock = FollowingClock()
    moment = Moment.after(600, clock)
    clock.offset_s = -3600
    await moment.come(clock)
    assert trio.current_time() == pytest.approx(600, abs=RECHECK_S)


async def test_a_time_of_day_comes_when_it_is_shown(autojump_clock: trio.abc.Clock) -> None:
    clock = FollowingClock()
    when = clock.now() + timedelta(minutes=10)
    async with trio.open_nursery() as nursery:

        async def set_back() -> None:
            await trio.sleep(300)
            clock.offset_s = -3600

        nursery.start_soon(set_back)
        assert not await until_shown(when, clock)
    assert trio.current_time() == pytest.approx(300, abs=RECHECK_S)
    assert await until_shown(when, clock)
    assert trio.current_time() == pytest.approx(4200, abs=RECHECK_S)
