from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.grid import GridInterval, RetentionGrid
from zrepl_trio.config.scalars import ScalarError

HOUR = 3600.0
DAY = 86400.0


def test_a_grid_of_three_terms() -> None:
    grid = RetentionGrid.parse(" 1x1h(keep=all) |24x1h| 14 x 1d (keep=2)")
    assert grid.intervals == (
        GridInterval(1, HOUR, None),
        GridInterval(24, HOUR, 1),
        GridInterval(14, DAY, 2),
    )
    assert str(grid) == "1x1h(keep=all) | 24x1h | 14x1d(keep=2)"
    assert not grid.may_drop_newest


def test_minus_one_is_all() -> None:
    assert RetentionGrid.parse("1x1h(keep=-1)").intervals == (GridInterval(1, HOUR, None),)


def test_a_shorter_interval_may_follow_keep_all_terms() -> None:
    assert len(RetentionGrid.parse("1x1d(keep=all) | 1x1h | 1x2h").intervals) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a grid term"),
        ("1x1h |", "is not a grid term"),
        ("1h", "is not a grid term"),
        ("0x1h", "count must be at least 1"),
        ("-1x1h", "is not a grid term"),
        ("1x0", "length must be more than 0"),
        ("1x-1h", "length must be more than 0"),
        ("1x10", "lacks a unit"),
        ("1x1h30m", "is not a duration"),
        ("1x1h()", "is not `keep=N` or `keep=all`"),
        ("1x1h(keep=)", "is not `keep=N` or `keep=all`"),
        ("1x1h(keep=all )", "is not `keep=N` or `keep=all`"),
        ("1x1h(hold=2)", "is not `keep=N` or `keep=all`"),
        ("1x1h(keep=0)", "keep must be at least 1"),
        ("1x1h(keep=-2)", "keep must be at least 1"),
        ("1x1d | 1x1h", "1x1h follows 1x1d"),
        ("1x1d(keep=all) | 1x2d | 1x1d", "1x1d follows 1x2d"),
        ("99999999999x1h", "more than 100000 buckets"),
    ],
)
def test_what_is_no_grid(text: str, words: str) -> None:
    with pytest.raises(ScalarError) as caught:
        RetentionGrid.parse(text)
    assert words in caught.value.message


TERMS = st.builds(
    GridInterval,
    st.integers(1, 100),
    st.integers(1, 1000).map(lambda hours: hours * HOUR),
    st.one_of(st.none(), st.integers(1, 9)),
)


@given(st.lists(TERMS, min_size=1, max_size=5))
def test_a_grid_prints_as_it_parses(terms: list[GridInterval]) -> None:
    grid = RetentionGrid(tuple(sorted(terms, key=lambda term: term.length_s)))
    assert RetentionGrid.parse(str(grid)) == grid


@given(st.text(st.sampled_from("0123456789xhdm |()=keepall-"), max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(ScalarError):
        RetentionGrid.parse(text)
