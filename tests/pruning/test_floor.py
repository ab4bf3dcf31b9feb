"""What a passive side keeps, whoever asks: the rules, and no way round them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pruning.policies import rules
from zrepl_trio.endpoint.refusals import is_left_alone
from zrepl_trio.pruning.floor import FloorRules
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

NOW = 1_700_000_000
HOUR = 3600


def floor(*wanted: dict[str, object], now: int = NOW) -> FloorRules:
    return FloorRules(
        job="sink",
        rules=rules(*wanted),
        now=lambda: datetime.fromtimestamp(now, UTC),
    )


def snapshot(name: str, creation: int, txg: int) -> FilesystemVersion:
    return FilesystemVersion(
        kind=VersionKind.SNAPSHOT, name=name, guid=txg, createtxg=txg, creation=creation
    )


HOURLY = [snapshot(f"h{n}", NOW - (9 - n) * HOUR, n + 1) for n in range(10)]
GRID: dict[str, object] = {"type": "grid", "grid": "4x1h | 2x2h", "regex": "."}
DAILY: dict[str, object] = {"type": "calendar", "hourly": 6}


def test_what_a_rule_keeps_is_told_with_the_rule() -> None:
    kept = floor({"type": "last_n", "count": 2})(HOURLY)
    assert set(kept) == {"h8", "h9"}
    assert kept["h9"] == "refused: kept by the floor of job 'sink': last_n 2"
    assert is_left_alone(kept["h9"])


@pytest.mark.parametrize("rule", [GRID, DAILY])
@given(
    forged=st.lists(st.tuples(st.sampled_from(["h", "x"]), st.integers(0, NOW + 10**8)), max_size=8)
)
def test_what_comes_later_takes_nothing_from_what_was_kept(
    rule: dict[str, object], forged: list[tuple[str, int]]
) -> None:
    """A client that sends snapshots of any name and time within the hour makes none go."""
    before = set(floor(rule)(HOURLY)) - {"h9"}  # the newest stays only for being that
    flood = [snapshot(f"{name}-{n}", at, 100 + n) for n, (name, at) in enumerate(forged)]
    assert before - set(floor(rule, now=NOW + 60)([*HOURLY, *flood])) <= {"h0", "h1"}


def test_a_time_of_the_future_ages_nothing() -> None:
    far = snapshot("far", NOW + 100 * 365 * 24 * HOUR, 99)
    kept = set(floor(GRID)([*HOURLY, far]))
    assert kept >= set(floor(GRID)(HOURLY)) - {"h9"}


def test_bookmarks_are_nobodys_business() -> None:
    mark = FilesystemVersion(kind=VersionKind.BOOKMARK, name="h", guid=1, createtxg=1, creation=NOW)
    assert dict(floor({"type": "last_n", "count": 5})([mark])) == {}
