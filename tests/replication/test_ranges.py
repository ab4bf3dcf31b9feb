"""How many snapshots go in one stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.endpoint.model import MAX_RANGE
from zrepl_trio.replication.plan import Step
from zrepl_trio.replication.ranges import (
    FIRST_BUDGET,
    RANGE_S,
    Budget,
    joinable,
    next_budget,
    reach,
    streams,
)
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

MIB = 1 << 20


def version(number: int, kind: VersionKind = VersionKind.SNAPSHOT) -> FilesystemVersion:
    return FilesystemVersion(
        kind=kind, name=str(number), guid=number, createtxg=number, creation=number
    )


def increments(count: int) -> list[Step]:
    return [Step(from_=version(n), to=version(n + 1)) for n in range(count)]


def test_neighbours_can_be_joined_up_to_a_limit() -> None:
    steps = increments(MAX_RANGE + 10)
    assert joinable(steps, 0) == MAX_RANGE
    assert joinable(steps, MAX_RANGE) == 10
    assert joinable(steps, 3, at_most=5) == 5
    assert joinable(steps, len(steps) - 1) == 1


@pytest.mark.parametrize(
    "alone",
    [
        Step(to=version(0)),
        Step(from_=version(0, VersionKind.BOOKMARK), to=version(1)),
        Step(from_=version(0), to=version(1), resume_token="1-t"),
    ],
    ids=["full", "from a bookmark", "resumed"],
)
def test_some_steps_go_alone(alone: Step) -> None:
    steps = [alone, *increments(5)]
    assert joinable(steps, 0) == 1
    assert joinable(steps, 1) == 5
    assert joinable([*increments(2), alone, *increments(5)], 0) == 2


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([1, 1, 1, 1], 4),
        ([MIB, MIB, MIB], 2),
        ([3 * MIB, 1], 1),
        ([1, 3 * MIB, 1], 1),
        ([1, None, 1], 1),
        ([None, 1], 1),
        ([0] * 9, 5),
        ([], 1),
    ],
)
def test_a_range_keeps_to_its_budget(sizes: list[int | None], count: int) -> None:
    assert reach(sizes, Budget(steps=5, size=2 * MIB)) == count


@pytest.mark.parametrize(
    ("moved", "after"),
    [
        # many small ones, quick: more of them, as many bytes
        ((100, MIB, 6.0), Budget(steps=800, size=1 << 30)),
        ((1000, MIB, 1.0), Budget(steps=MAX_RANGE, size=1 << 30)),
        # few large ones, quick: more bytes
        ((2, 1 << 30, 20.0), Budget(steps=100, size=3 << 30)),
        # slow: what would have taken RANGE_S
        ((100, 2 * MIB, 600.0), Budget(steps=10, size=64 * MIB)),
        ((10, 1 << 30, 120.0), Budget(steps=5, size=1 << 29)),
        ((1, 1 << 40, 36000.0), Budget(steps=1, size=int((1 << 40) / 600))),
        # as meant
        ((100, 1 << 30, RANGE_S), FIRST_BUDGET),
        ((1, 0, 0.0), FIRST_BUDGET),
    ],
)
def test_the_next_range_takes_as_long_as_meant(
    moved: tuple[int, int, float], after: Budget
) -> None:
    steps, size, seconds = moved
    assert next_budget(FIRST_BUDGET, steps=steps, size=size, seconds=seconds) == after


@given(
    st.integers(1, MAX_RANGE),
    st.integers(0, 1 << 50),
    st.floats(0, 1e7),
    st.integers(1, MAX_RANGE),
    st.integers(0, 1 << 50),
)
def test_a_budget_always_allows_something(
    steps: int, size: int, seconds: float, had_steps: int, had_size: int
) -> None:
    budget = next_budget(
        Budget(steps=had_steps, size=had_size), steps=steps, size=size, seconds=seconds
    )
    assert 1 <= budget.steps <= MAX_RANGE
    assert reach([1 << 60] * 3, budget) == 1
    assert 1 <= reach([1] * 2000, budget) <= budget.steps


def test_a_stream_ends_by_the_first_budget_and_where_a_step_goes_alone() -> None:
    full = Step(to=version(0))
    many = [full, *increments(FIRST_BUDGET.steps + 3)]
    assert streams(many, [1] * len(many)) == [range(1), range(1, 101), range(101, 104)]
    large = FIRST_BUDGET.size
    assert streams(increments(4), [1, large, None, 1]) == [
        range(1),
        range(1, 2),
        range(2, 3),
        range(3, 4),
    ]
    assert streams([], []) == []
