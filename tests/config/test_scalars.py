from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.scalars import (
    ScalarError,
    format_duration,
    format_go_duration,
    format_size,
    parse_duration,
    parse_go_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("10m", 600),
        ("+10m", 600),
        ("-5s", -5),
        (" 1 h ", 3600),
        ("2d", 172800),
        ("1w", 604800),
        ("007s", 7),
    ],
)
def test_zrepls_own_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "m",
        "1h30m",
        "1.5h",
        "10 minutes",
        "10M",
        "1y",
        "٣s",
        "10m\nx",
        "9" * 13 + "s",
        "999999999999w",
    ],
)
def test_what_is_no_duration_of_zrepls(text: str) -> None:
    with pytest.raises(ScalarError) as caught:
        parse_duration(text)
    assert "such as 10m or 2d" in caught.value.accepted


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("10s", 10),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1),
        ("-2m", -120),
        ("100ms", 0.1),
        ("5us", 5e-6),
        ("5µs", 5e-6),
        ("5μs", 5e-6),
        ("7ns", 7e-9),
        ("1h1m1s1ms", 3661.001),
    ],
)
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_go_duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "-", "10", ".s", "s", "1h 30m", "1d", "2w", "10S", "1e3s", "1..5s", "9999999999h", "1m30"],
)
def test_what_is_no_go_duration(text: str) -> None:
    with pytest.raises(ScalarError):
        parse_go_duration(text)


def test_a_day_in_the_wrong_grammar_is_told_apart() -> None:
    with pytest.raises(ScalarError, match="no unit 'd' here"):
        parse_go_duration("1d")


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("23 bit", 23),
        ("23bit", 23),
        ("10MiB", 83886080),
        ("10 MiB", 83886080),
        ("10.5 Kib", 10752),
        ("1 Kb", 1000),
        ("1 Kib", 1024),
        ("1 B", 8),
        ("-1 B", -8),
        ("0 B", 0),
        ("2 TB", 16e12),
        (".5 KB", 4000),
    ],
)
def test_sizes(text: str, bits: float) -> None:
    assert parse_size(text) == bits


@pytest.mark.parametrize(
    "text",
    ["", "1", "-1", "1 KiBit", "1.5 bit", "1 kb", "1 kB", "x B", "1.2.3 B", "- B", "1 PB", " 1 B"],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ScalarError):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_durations_print_as_they_parse(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=-(10**14), max_value=10**14))
def test_go_durations_print_as_they_parse(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_go_duration(format_go_duration(seconds)) == seconds


@given(
    st.one_of(
        st.integers(-(2**40), 2**50).map(float),
        st.decimals("0.01", "1000", places=2).map(lambda d: float(d * 1024)),
    )
)
def test_sizes_print_as_they_parse(bits: float) -> None:
    assert parse_size(format_size(bits)) == bits


@given(st.text(max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    for parse in (parse_duration, parse_go_duration, parse_size):
        with contextlib.suppress(ScalarError):
            parse(text)
