from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.timestamps import NamingError, SnapshotNaming, go_format

WHEN = datetime(2024, 5, 14, 21, 16, 23, 456000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("layout", "location", "expected"),
    [
        ("dense", "UTC", "20240514_211623_000"),
        ("Dense", "", "20240514_211623_000"),
        ("human", "UTC", "2024-05-14_21:16:23"),
        ("iso-8601", "UTC", "2024-05-14T21:16:23.456Z"),
        ("iso-8601", "Europe/Berlin", "2024-05-14T23:16:23.456_0200"),
        ("iso-8601", "America/New_York", "2024-05-14T17:16:23.456-0400"),
        # at +0 in winter, +1 in summer: the offset of the time itself counts
        ("iso-8601", "Europe/London", "2024-05-14T22:16:23.456_0100"),
        ("unix-seconds", "UTC", "1715721383"),
        ("2006-01-02_15:04:05-07:00:00", "Europe/Berlin", "2024-05-14_23:16:23_02:00:00"),
        ("060102", "Asia/Tokyo", "240515"),
    ],
)
def test_names(layout: str, location: str, expected: str) -> None:
    assert SnapshotNaming.checked("zrepl_", layout, location).name(WHEN) == f"zrepl_{expected}"


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("January Jan Jane", "May May Jane"),
        ("Monday Mon Month", "Tuesday Tue Month"),
        ("1 01 _2 2 02 002 __2", "5 05 14 14 14 135 135"),
        ("15 3 03 4 04 5 05 PM pm", "21 9 09 16 16 23 23 PM pm"),
        ("2006 06 _2006", "2024 24 _2024"),
        ("MST", "UTC"),
        ("Z07 Z0700 Z07:00 Z070000 Z07:00:00", "Z Z Z Z Z"),
        ("-07 -0700 -07:00", "+00 +0000 +00:00"),
        (".000 .00 ,000000 .000000000", ".456 .45 ,456000 .456000000"),
        (".999 .999999 .9", ".456 .456 .4"),
        (".0000x .0001", ".4560x .0005"),
    ],
)
def test_go_layouts(layout: str, expected: str) -> None:
    assert go_format(WHEN, layout) == expected


@pytest.mark.parametrize(
    ("prefix", "layout", "location", "key", "words"),
    [
        ("zrepl_", "dense", "Europe/Berlin", "location", "needs the location UTC"),
        ("zrepl_", "human", "Etc/UTC", "location", "needs the location UTC"),
        ("zrepl_", "unix-seconds", "Local", "location", "needs the location UTC"),
        ("zrepl_", "2006+01", "UTC", "format", "`+` is not allowed"),
        ("zrepl_", "", "UTC", "format", "is empty"),
        ("zrepl_", "dense", "Mars/Olympus", "location", "is not a time zone"),
        ("zrepl@", "dense", "UTC", "prefix", "illegal start of snapshot names"),
        ("zr/epl", "dense", "UTC", "prefix", "illegal start of snapshot names"),
        ("z" * 240, "dense", "UTC", "prefix", "up to 259 bytes"),
        # with the shortest dataset name there is, p@
        ("z" * 235, "dense", "UTC", "prefix", "there is room for 253"),
        ("z" * 300, "dense", "UTC", "prefix", "up to 319 bytes"),
        ("zrepl_", "2006-01-02-" * 24, "UTC", "format", "264 of them for the time"),
        # too long in some seasons only
        ("z" * 230, "2006_January_Monday", "UTC", "prefix", "up to 254 bytes"),
        ("zrepl_", "2006/01", "UTC", "format", "illegal snapshot name"),
        ("zrepl_", "%Y-%m-%d", "UTC", "format", "illegal snapshot name"),
        ("zrepl_", "-07 -07", "Europe/Berlin", "format", "illegal snapshot name"),
    ],
)
def test_what_gives_no_legal_name(
    prefix: str, layout: str, location: str, key: str, words: str
) -> None:
    with pytest.raises(NamingError) as caught:
        SnapshotNaming.checked(prefix, layout, location)
    assert words in caught.value.message
    assert caught.value.key == (key if key == "prefix" else f"timestamp_{key}")


def test_the_longest_prefix_that_leaves_room() -> None:
    naming = SnapshotNaming.checked("z" * 234, "dense", "UTC")
    assert len(naming.longest) == 253


@pytest.mark.parametrize(
    ("layout", "seconds"),
    [
        ("dense", 1),
        ("3:04:05 PM", 1),
        ("2006-01-02_15-04", 60),
        ("2006-01-02_15", None),
        ("s", None),
    ],
)
def test_how_soon_another_name_comes(layout: str, seconds: int | None) -> None:
    step = SnapshotNaming.checked("zrepl_", layout, "UTC").step
    assert step == (timedelta(seconds=seconds) if seconds else None)


@given(
    st.integers(0, 2**32), st.integers(1, 2**31), st.sampled_from(["dense", "human", "iso-8601"])
)
def test_names_sort_by_time(start: int, later: int, layout: str) -> None:
    naming = SnapshotNaming.checked("p_", layout, "UTC")
    early, late = (datetime.fromtimestamp(when, UTC) for when in (start, start + later))
    assert naming.name(early) < naming.name(late)
