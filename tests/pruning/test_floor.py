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


SOME_RULES = st.lists(
    st.sampled_from(
        [
            GRID,
            DAILY,
            {"type": "grid", "grid": "1x1h(keep=2) | 3x1h | 9x3h(keep=2)", "regex": "[hx]"},
            {"type": "grid", "grid": "1x1h(keep=all) | 4x2h", "regex": "x"},
            {"type": "calendar", "hourly": 2, "daily": 2, "regex": "h"},
            {"type": "last_n", "count": 2},
            {"type": "last_n", "count": 2, "regex": "x"},
            {"type": "regex", "regex": "x", "negate": True},
        ]
    ),
    min_size=1,
    max_size=3,
)


@given(
    wanted=SOME_RULES,
    minutes=st.lists(st.integers(-3000, 60), min_size=1, max_size=30).map(sorted),
    picks=st.lists(st.integers(0, 29), max_size=30),
)
def test_no_row_of_requests_gets_below_it(
    wanted: list[dict[str, object]], minutes: list[int], picks: list[int]
) -> None:
    """What it keeps of what came in the order of its times, it keeps whichever of the others are
    destroyed first."""
    made = [snapshot(f"{'hx'[n % 2]}{n}", NOW + 60 * m, n + 1) for n, m in enumerate(minutes)]
    rule = floor(*wanted)
    first = set(rule(made))
    for pick in picks:
        free = [version for version in made if version.name not in rule(made)]
        if free:
            made.remove(free[-1 - pick % len(free)])
    assert first <= {version.name for version in made}
    assert set(rule(made)) >= first


def test_the_newest_of_a_grid_stays_as_the_grid_begins_there() -> None:
    """One by one from the newest on, as a client could ask, all but the oldest went."""
    quarters = [snapshot(f"q{n}", NOW - (100 - n) * 900, n + 1) for n in range(101)]
    rule = floor({"type": "grid", "grid": "24x1h", "regex": "."})
    first = rule(quarters)
    assert "q100" in first
    left = quarters
    while gone := [version for version in left if version.name not in rule(left)]:
        left = [version for version in left if version is not gone[-1]]
    assert {version.name for version in left} == set(first)


@pytest.mark.parametrize("rule", [GRID, DAILY, {"type": "last_n", "count": 3}])
@pytest.mark.parametrize("back", [5 * HOUR, NOW])
def test_a_clock_that_was_set_back_frees_nothing(rule: dict[str, object], back: int) -> None:
    """A host without a clock of its own starts in 1970."""
    assert set(floor(rule, now=NOW - back)(HOURLY)) >= set(floor(rule)(HOURLY))


def test_what_is_of_the_future_stays_only_where_a_rule_names_it() -> None:
    named = {**GRID, "regex": "^h"}
    assert set(floor(named, now=0)([*HOURLY, snapshot("x", NOW, 99)])) == {
        version.name for version in HOURLY
    }


def test_a_time_of_the_future_makes_nothing_later_one_with_it() -> None:
    """A client's clock was wrong once; what came afterwards counts by its own times."""
    wrong = snapshot("wrong", NOW + 10**9, 0)
    assert set(floor(GRID)([wrong, *HOURLY])) == {"wrong", *floor(GRID)(HOURLY)}
