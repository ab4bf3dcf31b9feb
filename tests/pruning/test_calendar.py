"""Snapshots of the calendar's hours, days, weeks, months and years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.keep import KeepCalendar
from zrepl_trio.pruning.calendar import calendar_keeps

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def rule(**counts: object) -> KeepCalendar:
    return KeepCalendar.model_validate({"type": "calendar", **counts})


def kept(times: list[int], **counts: object) -> list[str]:
    zone = ZoneInfo(str(counts.get("timezone", "UTC")))
    found = calendar_keeps(times, rule(**counts), UTC)
    return [datetime.fromtimestamp(times[n], zone).isoformat()[:16] for n in sorted(found)]


TEN_MINUTES = [at("2024-05-06T10:00") + n * 600 for n in range(24)]  # to 13:50


@pytest.mark.parametrize(
    ("counts", "keeps"),
    [
        ({"hourly": 2}, "12:00 13:00 13:50"),
        ({"hourly": 9}, "10:00 11:00 12:00 13:00 13:50"),
        ({"daily": 3}, "10:00 13:50"),
        ({"hourly": 1, "yearly": 1}, "10:00 13:00 13:50"),
    ],
)
def test_the_first_of_each_and_the_newest(counts: dict[str, int], keeps: str) -> None:
    assert [text[11:] for text in kept(TEN_MINUTES, **counts)] == keeps.split()


def test_days_weeks_months_and_years_begin_where_the_calendar_says() -> None:
    days = [at("2023-11-01T12:00") + n * 86400 for n in range(100)]  # to 2024-02-08
    assert [text[:10] for text in kept(days, weekly=2)] == [
        "2024-01-29",
        "2024-02-05",
        "2024-02-08",
    ]
    assert [text[:10] for text in kept(days, monthly=3)] == [
        "2023-12-01",
        "2024-01-01",
        "2024-02-01",
        "2024-02-08",
    ]
    assert [text[:10] for text in kept(days, yearly=5)] == [
        "2023-11-01",
        "2024-01-01",
        "2024-02-08",
    ]


def test_only_periods_with_a_snapshot_count() -> None:
    times = [at("2020-01-05T00:00"), at("2022-07-01T00:00"), at("2024-05-06T00:00")]
    assert len(kept(times, daily=3)) == 3


def test_a_day_begins_at_midnight_of_the_zone() -> None:
    times = [at(f"2024-05-0{d}T{h:02}:30", BERLIN) for d in (5, 6) for h in (0, 1, 23)]
    assert kept(times, daily=2, timezone=BERLIN) == [
        "2024-05-05T00:30",
        "2024-05-06T00:30",
        "2024-05-06T23:30",
    ]


def test_local_is_the_zone_that_is_given() -> None:
    times = [at("2024-05-05T23:30"), at("2024-05-06T12:00"), at("2024-05-06T13:00")]
    one_day = rule(daily=1, timezone="Local")
    assert calendar_keeps(times, one_day, UTC) == {1, 2}
    assert calendar_keeps(times, one_day, ZoneInfo(BERLIN)) == {0, 2}


def test_the_hour_that_comes_twice_is_two() -> None:
    start = at("2024-10-27T00:00")  # 02:00 of summer, in Berlin
    times = [start + n * 1800 for n in range(6)]
    found = calendar_keeps(times, rule(hourly=3, timezone=BERLIN), UTC)
    assert found == {0, 2, 4, 5}


def test_a_calendar_needs_a_count() -> None:
    with pytest.raises(ValueError, match="has no count"):
        rule()
    with pytest.raises(ValueError, match="not a time zone"):
        rule(daily=1, timezone="Mars/Olympus")


times = st.lists(st.integers(1_600_000_000, 1_700_000_000), min_size=1, max_size=60)
counts = st.fixed_dictionaries(
    {name: st.integers(0, 5) for name in ("hourly", "daily", "weekly", "monthly", "yearly")}
).filter(lambda found: any(found.values()))


@given(times, counts, st.sampled_from(["UTC", BERLIN, "Asia/Kathmandu"]))
def test_what_stays_would_stay_again(creations: list[int], some: dict[str, int], zone: str) -> None:
    wanted = rule(**some, timezone=zone)
    creations = sorted(creations)
    found = calendar_keeps(creations, wanted, UTC)
    left = [creations[index] for index in sorted(found)]
    assert len(creations) - 1 in found
    assert calendar_keeps(left, wanted, UTC) == set(range(len(left)))
    assert len(found) <= sum(some.values()) + 1


@given(times, counts)
def test_what_is_kept_at_one_time_was_not_given_up_before(
    creations: list[int], some: dict[str, int]
) -> None:
    """Pruned at each snapshot, a job has what it would have, had it kept all until now."""
    wanted = rule(**some)
    left: list[int] = []
    for creation in sorted(set(creations)):
        left.append(creation)
        left = [left[index] for index in sorted(calendar_keeps(left, wanted, UTC))]
    everything = sorted(set(creations))
    assert left == [everything[i] for i in sorted(calendar_keeps(everything, wanted, UTC))]
    assert timedelta(seconds=left[-1]) == timedelta(seconds=everything[-1])


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Adak"])
def test_a_time_that_no_calendar_has_is_taken_for_its_end(zone: str) -> None:
    """A stream carries any number; a peer's wrong one must not keep the rest from being judged."""
    wanted = rule(daily=2, timezone=zone)
    wild = [-(1 << 62), -62_135_596_800, 0, 86_400, 253_402_300_799, 1 << 40, 1 << 63]
    assert calendar_keeps(wild, wanted, UTC) == {3, 4, 6}
    assert calendar_keeps([0, 86_400], wanted, UTC) == {0, 1}
