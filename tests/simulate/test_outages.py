"""When links are down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from zrepl_trio.errors import Refused
from zrepl_trio.simulate.idle import idle_outages
from zrepl_trio.simulate.outages import Windows, check_links, parse_outage
from zrepl_trio.simulate.spans import parse_span

HOSTS = ["app-srv", "backup", "b"]
START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def windows(text: str, *, days: int = 30, zone: str = "UTC") -> list[str]:
    outage = parse_outage(text, HOSTS)
    found = outage.windows(START, START + timedelta(days=days), ZoneInfo(zone))
    return [f"{begin:%m-%dT%H:%M}/{end:%m-%dT%H:%M}" for begin, end in found]


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        (
            "link app-srv-backup sat 00:00 for 48h",
            12,
            ["01-03T00:00/01-05T00:00", "01-10T00:00/01-12T00:00"],
        ),
        ("link app-srv-b every 2 weeks sat 00:00 for 1d", 18, ["01-03T00:00/01-04T00:00", "01-17T00:00/01-18T00:00"]),
        ("link b-backup 2026-01-05 12:30 for 90m", 30, ["01-05T12:30/01-05T14:00"]),
        ("link b-backup 2026-01-05 for 1d", 30, ["01-05T00:00/01-06T00:00"]),
        ("link b-backup 2027-01-05 for 1d", 30, []),
        ("link b-backup DAILY 23:00 for 2h", 2, ["01-01T00:00/01-01T01:00", "01-01T23:00/01-02T01:00", "01-02T23:00/01-03T00:00"]),
        ("link b-backup mon-wed,fri 8:00 for 1h", 9, [f"01-{day:02}T08:00/01-{day:02}T09:00" for day in (2, 5, 6, 7, 9)]),
        ("link b-backup mon,tue 8:00 for 1h", 7, ["01-05T08:00/01-05T09:00", "01-06T08:00/01-06T09:00"]),
    ],
)  # fmt: skip
def test_windows(text: str, days: int, expected: list[str]) -> None:
    assert windows(text, days=days) == expected


def test_times_are_those_of_the_zone_summer_time_included() -> None:
    outage = parse_outage("link b-backup sun 12:00 for 1h", HOSTS)
    march = datetime(2026, 3, 20, tzinfo=UTC)
    found = outage.windows(march, march + timedelta(days=14), ZoneInfo("Europe/Berlin"))
    assert [begin.hour for begin, _ in found] == [11, 10]


def test_which_host_is_which_may_be_written_either_way_and_with_dashes() -> None:
    for text in ("link app-srv-b sat 00:00 for 1h", "link b-app-srv sat 00:00 for 1h"):
        assert parse_outage(text, HOSTS).hosts == {"app-srv", "b"}


def test_a_link_that_may_be_two_is_refused() -> None:
    """As text it is that of `a` and `b-c`, or of `a-b` and `c`."""
    hosts = ["a", "b-c", "a-b", "c"]
    with pytest.raises(
        Refused, match=r"'a-b-c' may be that of .*, or that of .*: give a host another name"
    ):
        parse_outage("link a-b-c sat 00:00 for 1h", hosts)
    assert parse_outage("link a-b-c sat 00:00 for 1h", hosts[:3]).hosts == {"a", "b-c"}


def test_an_outage_of_hosts_that_nothing_connects_is_refused() -> None:
    links = {frozenset({"app-srv", "backup"}), frozenset({"b"})}
    check_links([parse_outage("link app-srv-backup sat 00:00 for 1h", HOSTS)], links)
    with pytest.raises(
        Refused, match=r"no job connects app-srv and b; the links are app-srv-backup$"
    ):
        check_links([parse_outage("link b-app-srv sat 00:00 for 1h", HOSTS)], links)


def test_an_outage_that_never_comes_is_noted() -> None:
    texts = ["link b-backup 2026-02-01 for 1d", "link b-backup 2026-01-30 for 1d"]
    outages = [parse_outage(text, HOSTS) for text in texts]
    (note,) = idle_outages(outages, START, 31 * 86400, UTC)
    assert note.startswith(
        "--outage 'link b-backup 2026-02-01 for 1d' is of no effect: it never comes from 2026-01-01 00:00"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("link app-srv-backup mon-foo 00:00 for 48h", "is no list of days"),
        ("link app-srv-backup saturday 00:00 for 48h", "cannot be read"),
        ("link app-srv-backup sat for 48h", "cannot be read"),
        ("link app-srv-backup foo 00:00 for 48h", "'foo' is no list of days"),
        ("link app-srv-backup sat 25:00 for 48h", "no time of day"),
        ("link app-srv-backup sat 00:00 for ever", "no span of time"),
        ("link app-srv-backup every 0 weeks sat 00:00 for 1h", "never"),
        ("link app-srv-backup 2026-02-30 for 1h", "day is out of range|day 30 must be"),
        ("link app-srv-nowhere sat 00:00 for 48h", "hosts are app-srv, backup, b"),
        ("link b-b sat 00:00 for 48h", "no link"),
        ("backup down", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        parse_outage(text, HOSTS)


def test_moments_are_found_in_windows_that_overlap() -> None:
    found = Windows([(50, 60), (0, 10), (5, 20), (20, 30)])
    assert found.merged == [(0, 30), (50, 60)]
    assert [found.until(at) for at in (0, 29.9, 30, 49, 50, 60)] == [30, 30, None, None, 60, None]
    assert Windows([]).until(1) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("48h", 172_800), ("2d", 172_800), ("1w", 604_800), ("1y", 31_536_000)],
)
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "1", "0d", "-1d", "1.5d", "1month"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--for"):
        parse_span(text, "--for")
