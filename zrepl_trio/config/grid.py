"""Retention grids: `1x1h(keep=all) | 24x1h | 14x1d`, parsed and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from zrepl_trio.config.scalars import ScalarError, format_duration, parse_duration

__all__ = ["GRID_WORDS", "MAX_BUCKETS", "GridInterval", "RetentionGrid"]

GRID_WORDS = "terms `COUNTxLENGTH` or `COUNTxLENGTH(keep=N|all)` joined by `|`, such as 1x1h(keep=all) | 24x1h"

MAX_BUCKETS = 100_000
"""Most buckets of one grid: eleven years of hours; a bound of ours, zrepl has none."""

_TERM = re.compile(r"\s*(\d+)\s*x\s*([^\(]+)\s*(\((.*)\))?\s*", re.ASCII)
_KEEP = re.compile(r"\s*keep=(all|-?[0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class GridInterval:
    """`count` buckets of `length_s` seconds each, keeping `keep` snapshots (None: all)."""

    count: int
    length_s: float
    keep: int | None

    def __str__(self) -> str:
        keep = "" if self.keep == 1 else f"(keep={'all' if self.keep is None else self.keep})"
        return f"{self.count}x{format_duration(self.length_s)}{keep}"


@dataclass(frozen=True, slots=True)
class RetentionGrid:
    """The terms of a grid, youngest first."""

    intervals: tuple[GridInterval, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.intervals))

    @property
    def may_drop_newest(self) -> bool:
        """Whether the youngest snapshot can go: the first bucket keeps its *oldest* ones."""
        return self.intervals[0].keep is not None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The grid in `text`; ScalarError says which term is wrong and how."""
        intervals = tuple(_parse_term(term) for term in text.split("|"))
        if sum(interval.count for interval in intervals) > MAX_BUCKETS:
            raise ScalarError(f"the grid has more than {MAX_BUCKETS} buckets", GRID_WORDS)
        for index, (early, later) in enumerate(pairwise(intervals), start=1):
            shrinks = later.length_s < early.length_s
            if shrinks and not all(before.keep is None for before in intervals[:index]):
                raise ScalarError(
                    f"the lengths must not shrink from left to right, and {later} follows "
                    f"{early} (allowed only behind keep=all terms)",
                    GRID_WORDS,
                )
        return cls(intervals)


def _parse_term(term: str) -> GridInterval:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ScalarError(f"{term.strip()!r} is not a grid term", GRID_WORDS)
    count = int(match[1]) if len(match[1]) <= 9 else MAX_BUCKETS + 1
    if count < 1:
        raise ScalarError(f"{term.strip()!r}: the count must be at least 1", GRID_WORDS)
    try:
        length_s = parse_duration(match[2])
    except ScalarError as error:
        raise ScalarError(f"{term.strip()!r}: {error.message}", GRID_WORDS) from None
    if length_s <= 0:
        raise ScalarError(f"{term.strip()!r}: the length must be more than 0", GRID_WORDS)
    return GridInterval(count, length_s, _parse_keep(term, match[4]))


def _parse_keep(term: str, text: str | None) -> int | None:
    if text is None:
        return 1
    match = _KEEP.fullmatch(text)
    if match is None:
        raise ScalarError(f"{term.strip()!r}: {text!r} is not `keep=N` or `keep=all`", GRID_WORDS)
    if match[1] in {"all", "-1"}:
        return None
    keep = int(match[1])
    if keep < 1:
        # zrepl parses keep=0 and then panics when pruning runs.
        raise ScalarError(f"{term.strip()!r}: keep must be at least 1", GRID_WORDS)
    return keep
