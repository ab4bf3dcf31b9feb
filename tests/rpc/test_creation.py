from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.rpc import creation


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-01-02T03:04:05Z", 1704164645),
        ("2024-01-02T03:04:05+01:00", 1704161045),
        ("2024-01-02T03:04:05.999999999-00:30", 1704166445),
        ("1969-12-31T23:59:59Z", -1),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("0001-01-01T00:00:00+01:00", -62135600400),
        ("0000-02-29T00:00:00Z", -62162121600),
        ("9999-12-31T23:59:59-24:00", 253402387199),
    ],
)
def test_times_are_read(text: str, seconds: int) -> None:
    assert creation.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-02",
        "2024-01-02 03:04:05Z",
        "2024-01-02T03:04:05",
        "2024-01-02T03:04:05Z\n",
        "2024-01-02T24:00:00Z",
        "2024-01-02T03:60:00Z",
        "2024-01-02T03:04:60Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-02T03:04:05+25:00",
        "10000-01-01T00:00:00Z",
        "٢٠٢٤-01-02T03:04:05Z",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="creation time"):
        creation.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1704164645, "2024-01-02T03:04:05Z"),
        (2**64, "9999-12-31T23:59:59Z"),
        (-(2**64), "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_rendered_and_always_parse(seconds: int, text: str) -> None:
    assert creation.render(seconds) == text


@given(st.integers(-62135596800, 253402300799))
def test_every_time_in_range_comes_back(seconds: int) -> None:
    text = creation.render(seconds)
    assert creation.parse(text) == seconds
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(seconds, UTC)


@given(st.text())
def test_noise_is_only_ever_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        creation.parse(text)
