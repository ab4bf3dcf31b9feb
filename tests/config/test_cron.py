from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
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
        ("1,,2 * * * *", "has an empty term"),
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


FIELD = st.text(st.sampled_from("0123456789*?/-,"), min_size=1, max_size=6)


@given(st.lists(FIELD, min_size=5, max_size=6).map(" ".join))
def test_no_text_raises_anything_else_and_what_parses_fires(text: str) -> None:
    try:
        spec = CronSpec.parse(text)
    except ScalarError:
        return
    assert next(spec.times_after(NOW)) > NOW
