"""What is written to a dataset, and what of it is still there."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.errors import Refused
from zrepl_trio.simulate.workload import DEFAULT, Workload, Written, kept_bytes, parse_workload

START = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20

workloads = st.builds(
    Workload,
    writes=st.just(1.0),
    rewrites=st.sampled_from([0.0, 0.3, 0.8, 0.99, 1.0]),
    holds=st.floats(1, 1e12),
)
positions = st.lists(st.integers(0, 10**12), min_size=2, max_size=6).map(sorted)


@given(workloads, positions)
def test_what_survives_is_part_of_what_was_written_and_of_what_is_there(
    workload: Workload, at: list[int]
) -> None:
    survivors = workload.survives(at[0], at[-1])
    written = at[-1] - at[0]
    assert -1 <= survivors <= written * (1 + 1e-9) + 1
    assert survivors <= workload.live(at[-1]) * (1 + 1e-9) + 1


@given(workloads, positions)
def test_one_more_snapshot_never_takes_less(workload: Workload, at: list[int]) -> None:
    whole = kept_bytes(workload, at, None)
    for index in range(1, len(at) - 1):
        fewer = kept_bytes(workload, at[:index] + at[index + 1 :], None)
        assert fewer <= whole * (1 + 1e-9) + 1
    assert whole >= workload.live(at[-1]) * (1 - 1e-9) - 1


@pytest.mark.parametrize("rewrites", [0.0, 0.5, 0.9, 1.0])
def test_the_formula_is_what_overwriting_blocks_at_random_gives(rewrites: float) -> None:
    """Against a dataset of a few thousand blocks that are really overwritten."""
    rng = random.Random(5)
    blocks = [0] * 2000
    workload = Workload(writes=1, rewrites=rewrites, holds=len(blocks))
    for number in range(1, 6001):
        if rng.random() < rewrites:
            blocks[rng.randrange(len(blocks))] = number
        else:
            blocks.append(number)
    for since in (0, 2000, 5000):
        there = sum(born > since for born in blocks)
        assert workload.survives(since, 6000) == pytest.approx(there, rel=0.06)


def test_nothing_but_appending_keeps_all_that_was_written() -> None:
    workload = Workload(writes=1, rewrites=0, holds=0)
    assert workload.survives(10, 25) == pytest.approx(15)
    assert workload.live(25) == 25


def test_what_is_written_grows_steadily_and_by_its_seed() -> None:
    def positions(seed: str) -> list[int]:
        written = Written(Workload(writes=MIB), random.Random(seed), START, UTC)
        return [written.at(each * 600) for each in range(24 * 6 + 1)]

    once = positions("1:a:tank")
    assert once == positions("1:a:tank")
    assert once != positions("2:a:tank")
    assert once == sorted(once)
    assert once[-1] == pytest.approx(24 * MIB, rel=0.2)
    hours = [later - earlier for earlier, later in zip(once[::6], once[6::6], strict=False)]
    assert all(MIB / 2 - 1 <= hour <= MIB * 3 / 2 + 1 for hour in hours)
    assert len(set(hours)) > 12


def test_asking_again_or_out_of_order_changes_nothing() -> None:
    asked, other = (Written(Workload(), random.Random("s"), START, UTC) for _ in range(2))
    late = asked.at(100_000)
    assert [asked.at(1000), asked.at(100_000)] == [other.at(1000), late]


def test_hours_and_days_are_those_of_the_zone() -> None:
    workload = Workload(writes=MIB, hours=(8, 18), days=frozenset(range(5)))
    # the first of January 2026 is a Thursday; Berlin is an hour ahead
    written = Written(workload, random.Random("s"), START, ZoneInfo("Europe/Berlin"))
    assert written.at(7 * 3600) == 0
    assert written.at(8 * 3600) > 0
    assert written.at(17 * 3600) == written.at(24 * 3600)
    friday_evening, monday = (24 + 17) * 3600, (4 * 24 + 7) * 3600
    assert written.at(friday_evening) == written.at(monday)
    assert written.at(monday + 3600) > written.at(monday)
    night = Workload(hours=(22, 6))
    assert [night.active(START.replace(hour=hour)) for hour in (21, 22, 0, 5, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_spec_says_what_is_given_and_leaves_the_rest() -> None:
    spec = parse_workload(
        "app:tank/a writes=500MiB rewrites=20% holds=3 GiB".replace(" GiB", "GiB")
    )
    assert (spec.host, spec.dataset) == ("app", "tank/a")
    assert spec.on(DEFAULT) == Workload(writes=500 * MIB, rewrites=0.2, holds=3 * 1024 * MIB)
    spec = parse_workload("tank/a hours=22-6 days=sat-mon,wed writes=0")
    assert (spec.host, spec.dataset) == (None, "tank/a")
    assert spec.on(DEFAULT).days == {5, 6, 0, 2}
    assert spec.on(DEFAULT).hours == (22, 6)
    assert spec.on(DEFAULT).writes == 0
    assert parse_workload("*").dataset is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no dataset"),
        ("writes=1MiB", "names no dataset"),
        ("tank writes", "what is 'writes'"),
        ("tank reads=1MiB", "what is 'reads=1MiB'"),
        ("tank writes=1MiB writes=2MiB", "what is 'writes=2MiB'"),
        ("tank writes=much", "not a size"),
        ("tank writes=-1B", "negative"),
        ("tank rewrites=101%", "no percentage"),
        ("tank rewrites=half", "no percentage"),
        ("tank hours=8", "no range of hours"),
        ("tank hours=24-8", "no range of hours"),
        ("tank hours=8-8", "no range of hours"),
        ("tank days=monday", "no list of days"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused_with_what_can(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        parse_workload(text)
    assert "DATASET" in str(refused.value)
