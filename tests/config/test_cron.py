from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.cron import CronSpec
from zrepl_trio.config.scalars import ScalarError

NOW = datetime(2024, 5, 14, 21, 16, 23, tzinfo=UTC)  # a Tuesday


def times(text: str, count: int = 2, now: datetime = NOW) -> list[str]:
    found = islice(CronSpec.parse(text).times_after(now), count)
    return [when.strftime("%m-%d %H:%M:%S") for when in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/5 * * * *", ["05-14 21:20:00", "05-14 21:25:00"]),
        ("5/20 * * * *", ["05-14 21:25:00", "05-14 21:45:00"]),
        ("10-12 22 * * *", ["05-14 22:10:00", "05-14 22:11:00"]),
        ("20,,40, * * * *", ["05-14 21:20:00", "05-14 21:40:00"]),
        ("53 17,18 * * *", ["05-15 17:53:00", "05-15 18:53:00"]),
        ("*/30 * * * * *", ["05-14 21:16:30", "05-14 21:17:00"]),
        ("0 0 1 jan ?", ["01-01 00:00:00", "01-01 00:00:00"]),
        ("0 0 ? * SUN", ["05-19 00:00:00", "05-26 00:00:00"]),
        ("0 0 * * mon-fri", ["05-15 00:00:00", "05-16 00:00:00"]),
        # both days restricted: either matches
        ("0 0 17 * 4", ["05-16 00:00:00", "05-17 00:00:00"]),
        # a step makes a star a restriction, unlike in vixie cron
        ("0 0 */16 * 0", ["05-17 00:00:00", "05-19 00:00:00"]),
        ("0 0 */1 * 0", ["05-19 00:00:00", "05-26 00:00:00"]),
    ],
)
def test_specs_fire_as_in_robfig_cron(text: str, expected: list[str]) -> None:
    assert times(text) == expected


def test_a_spec_with_a_zone_fires_by_that_zone() -> None:
    for head in ("TZ", "CRON_TZ"):
        spec = CronSpec.parse(f"{head}=Europe/Berlin 0 2 * * *")
        assert next(spec.times_after(NOW)).astimezone(UTC) == datetime(2024, 5, 15, tzinfo=UTC)


def test_a_spec_without_a_zone_fires_by_the_zone_of_now() -> None:
    now = NOW.astimezone(ZoneInfo("Asia/Tokyo"))
    when = next(CronSpec.parse("0 7 * * *").times_after(now))
    assert when.astimezone(UTC) == datetime(2024, 5, 14, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("@daily", "descriptors"),
        ("@every 5m", "descriptors"),
        ("TZ=UTC @reboot x y z", "descriptors"),
        ("60 * * * *", "minute '60' is out of range"),
        ("* 24 * * *", "hour '24' is out of range"),
        ("* * 0 * *", "day of month '0' is out of range"),
        ("* * * 13 *", "month '13' is out of range"),
        ("* * * * 7", "weekday '7' is out of range"),
        ("* * * foo *", "month 'foo' is out of range"),
        ("*/0 * * * *", "the step must be a number from 1"),
        ("*/x * * * *", "the step must be a number from 1"),
        ("5-1 * * * *", "the range runs backwards"),
        ("*-5 * * * *", "is not a range"),
        (",, * * * *", "minute ',,' has no term"),
        ("+1 * * * *", "minute '+1' is out of range"),
        ("*-3 * * * *", "is not a range"),
        ("L * * * *", "is out of range"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 2,4,6,9,11 *", "never comes"),
        ("TZ=UTC", "a zone and no fields"),
        ("TZ=Nowhere/Land * * * * *", "is not a time zone"),
        ("TZ=../../etc/passwd * * * * *", "is not a time zone"),
    ],
)
def test_what_is_no_spec(text: str, words: str) -> None:
    with pytest.raises(ScalarError) as caught:
        CronSpec.parse(text)
    assert words in caught.value.message


ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # by half an hour
    "Antarctica/Troll",  # by two
    "America/Havana",  # at midnight
    "Asia/Kolkata",  # never
)
SWITCHES = [datetime(2026, month, day, tzinfo=UTC) for month in (3, 4, 10, 11) for day in (1, 4)]
SWITCHES += [datetime(2026, month, day, tzinfo=UTC) for month in (3, 10) for day in (8, 25, 29)]
WATCHED = timedelta(days=2)


def slowly(minutes: set[int], hours: set[int], now: datetime, *, once: bool) -> list[datetime]:
    """Minute by minute: whenever the clocks show such a time, or each once, and the first minute there is
    where they jump over it."""
    found = []
    before = now.astimezone(UTC).replace(second=0, microsecond=0)
    for number in range(int(WATCHED.total_seconds()) // 60):
        when = before + timedelta(minutes=number)
        shown = when.astimezone(now.tzinfo)
        matches = shown.minute in minutes and shown.hour in hours
        if once:
            last = (when - timedelta(minutes=1)).astimezone(now.tzinfo).replace(tzinfo=None)
            step = shown.replace(tzinfo=None) - last
            jumped = [
                last + timedelta(minutes=n) for n in range(1, int(step.total_seconds()) // 60)
            ]
            due = any(each.minute in minutes and each.hour in hours for each in jumped)
            matches = (matches and shown.fold == 0) or due
        if matches and when > now:
            found.append(when)
    return found


@given(
    minutes=st.sets(st.sampled_from([0, 15, 20, 30, 45, 59]), min_size=1),
    hours=st.none() | st.sets(st.integers(0, 5) | st.integers(0, 23), min_size=1),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(SWITCHES),
    later=st.integers(0, 3 * 24 * 60),
    seconds=st.booleans(),
)
def test_no_time_is_lost_as_the_clocks_are_put(
    minutes: set[int],
    hours: set[int] | None,
    zone: str,
    start: datetime,
    later: int,
    *,
    seconds: bool,
) -> None:
    minute, hour = (",".join(map(str, each)) for each in (minutes, hours or ()))
    spec = CronSpec.parse(f"{'0 ' if seconds else ''}{minute} {hour or '*'} * * *")
    now = (start + timedelta(minutes=later)).astimezone(ZoneInfo(zone))
    once = hours is not None and not seconds
    expected = slowly(minutes, hours or set(range(24)), now, once=once)
    end = now.astimezone(UTC) + WATCHED
    found = (when.astimezone(UTC) for when in spec.times_after(now))
    assert list(takewhile(lambda when: when < end, found)) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("0 0 0 * * *", ["04-05 00:00+1100", "04-06 00:00+1030", "04-07 00:00+1030"]),
        ("30 * * * *", ["04-05 00:30+1100", "04-05 01:30+1100", "04-05 01:30+1030"]),
        ("30 1 * * *", ["04-05 01:30+1100", "04-06 01:30+1030", "04-07 01:30+1030"]),
    ],
)
def test_clocks_that_go_back_by_half_an_hour_cost_no_time(spec: str, expected: list[str]) -> None:
    now = datetime(2026, 4, 4, 23, 45, tzinfo=ZoneInfo("Australia/Lord_Howe"))
    found = islice(CronSpec.parse(spec).times_after(now), 3)
    assert [when.strftime("%m-%d %H:%M%z") for when in found] == expected


@pytest.mark.parametrize(
    ("spec", "spring", "autumn"),
    [
        # a time of the day: once, whatever the clocks do
        ("30 2 * * *", ["29 03:00+0200", "30 02:30+0200"], ["25 02:30+0200", "26 02:30+0100"]),
        # seconds: whenever the clocks show it, as with zrepl
        ("0 30 2 * * *", ["30 02:30+0200"], ["25 02:30+0200", "25 02:30+0100"]),
        # every hour, every few minutes: likewise
        ("0 * * * *", ["29 03:00+0200", "29 04:00+0200"], ["25 02:00+0200", "25 02:00+0100"]),
    ],
)
def test_what_a_spec_means_as_the_clocks_are_put(
    spec: str, spring: list[str], autumn: list[str]
) -> None:
    for month, day, hour, expected in ((3, 29, 1, spring), (10, 25, 1, autumn)):
        now = datetime(2026, month, day, hour, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        found = islice(CronSpec.parse(spec).times_after(now), len(expected))
        assert [when.strftime("%d %H:%M%z") for when in found] == expected


def test_a_daemon_that_starts_in_the_second_of_two_hours_looks_ahead() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=berlin)
    when = next(CronSpec.parse("30 2 * * *").times_after(now))
    assert when == datetime(2026, 10, 26, 2, 30, tzinfo=berlin)


FIELD = st.text(st.sampled_from("0123456789*?/-,"), min_size=1, max_size=6)


@given(st.lists(FIELD, min_size=5, max_size=6).map(" ".join))
def test_no_text_raises_anything_else_and_what_parses_fires(text: str) -> None:
    try:
        spec = CronSpec.parse(text)
    except ScalarError:
        return
    assert next(spec.times_after(NOW)) > NOW
