from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.amounts import bytes_text, counted, duration_text, rate_text


def test_one_is_told_as_one() -> None:
    words = [counted(count, "snapshot is", "snapshots are") for count in (0, 1, 2)]
    assert words == ["0 snapshots are", "1 snapshot is", "2 snapshots are"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (33 * 1024**2, "33.0 MiB"),
        (1024**4, "1.0 TiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@given(st.integers(min_value=0, max_value=2**63))
def test_bytes_never_show_a_number_of_the_next_unit(count: int) -> None:
    number, unit = bytes_text(count).split()
    assert float(number) < 1024 or unit == "EiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.04, "40 ms"),
        (0.9999, "1.0 s"),
        (2.13, "2.1 s"),
        (59.99, "1m 00s"),
        (245, "4m 05s"),
        (3600 * 3 + 60 * 20, "3h 20m"),
        (86400 * 5 + 7200, "5d 2h"),
        (-1, "0 ms"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_rate_needs_time() -> None:
    assert rate_text(2048, 2) == "1.0 KiB/s"
    assert rate_text(2048, 0) == ""
