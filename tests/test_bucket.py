"""The bucket hands out what flowed in, no more and no less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.bucket import Bucket

S = 1_000_000_000
KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("rate", "capacity", "grain", "burst"),
    [
        (1, 1, 1, 2),
        (50, 1, 50, 53),
        (5000, 1, 1024, 1274),
        (MIB, 128 * KIB, MIB // 100, 128 * KIB),
        (MIB, 1, MIB // 100, MIB // 100 + MIB // 20 + 1),
        (1000 * MIB, 128 * KIB, 10 * MIB, 60 * MIB),
    ],
)
def test_what_it_gives_at_once(rate: int, capacity: int, grain: int, burst: int) -> None:
    bucket = Bucket(rate, capacity)
    assert (bucket.grain, bucket.burst) == (grain, burst)
    assert bucket.grain <= rate


def test_a_burst_then_the_rate() -> None:
    bucket = Bucket(10_000, 4000)
    assert bucket.take(3000, 0) == 3000
    assert bucket.take(3000, 0) == 0
    # 24 bytes short of a grain: 2.4 ms
    assert bucket.wait_ns(3000, 0) == 2_400_000
    assert bucket.take(3000, 2_399_999) == 0
    assert bucket.take(3000, 2_400_000) == 1024
    # less than a grain is given to who wants no more
    assert bucket.wait_ns(10, 2_400_000) == 1_000_000
    assert bucket.take(10, 3_400_000) == 10


def test_it_fills_to_the_burst_and_not_over() -> None:
    bucket = Bucket(10_000, 4000)
    assert bucket.take(4000, 0) == 4000
    assert bucket.take(9999, 60 * S) == 4000
    bucket.give_back(4000)
    bucket.give_back(4000)
    assert bucket.take(9999, 60 * S) == 4000


def test_no_more_than_a_second_at_once() -> None:
    bucket = Bucket(1000, 1 << 40)
    assert bucket.take(1 << 40, 0) == 1000
    assert bucket.take(1 << 40, 0) == 1000


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = Bucket(10_000, 4000)
    assert bucket.take(4000, 10 * S) == 4000
    assert bucket.take(4000, 5 * S) == 0
    assert bucket.take(4000, 10 * S) == 0
    assert bucket.take(4000, 11 * S) == 4000


RATES = st.integers(1, 1 << 34)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3 * S),  # time passes
        st.integers(1, 1 << 34),  # wanted
        st.integers(0, 100),  # per cent given back
    ),
    min_size=1,
    max_size=40,
)


@given(rate=RATES, capacity=RATES, steps=STEPS)
def test_never_more_than_a_burst_and_what_flowed_in(
    rate: int, capacity: int, steps: list[tuple[int, int, int]]
) -> None:
    bucket = Bucket(rate, capacity)
    now = 0
    moved: list[tuple[int, int]] = []
    for passed, wanted, back in steps:
        now += passed
        wait = bucket.wait_ns(wanted, now)
        taken = bucket.take(wanted, now)
        assert bool(taken) == (wait == 0)
        if taken:
            assert min(wanted, bucket.grain) <= taken <= min(wanted, rate)
            returned = taken * back // 100
            bucket.give_back(returned)
            moved.append((now, taken - returned))
    for first, (start, _) in enumerate(moved):
        for last in range(first, len(moved)):
            size = sum(count for _, count in moved[first : last + 1])
            assert size * S <= bucket.burst * S + (moved[last][0] - start) * rate


def emptied(rate: int, capacity: int) -> Bucket:
    """A bucket from which all that could be taken at 0 was taken."""
    bucket = Bucket(rate, capacity)
    while bucket.take(1 << 62, 0):
        pass
    return bucket


@given(rate=RATES, capacity=st.integers(1, 1 << 20), late=st.integers(0, S // 20))
def test_who_asks_again_and_again_gets_the_rate_even_when_late(
    rate: int, capacity: int, late: int
) -> None:
    bucket = emptied(rate, min(capacity, 10 * rate))
    wanted = 1 << 62
    now = total = 0
    for _ in range(100):
        now += bucket.wait_ns(wanted, now) + late
        taken = bucket.take(wanted, now)
        assert taken
        total += taken
    while taken := bucket.take(wanted, now):
        total += taken
    # less than a grain was left in the bucket at the start, and is now
    assert abs(total * S - now * rate) < bucket.grain * S


@given(rate=RATES, wanted=st.integers(1, 1 << 34))
def test_a_wait_is_exact(rate: int, wanted: int) -> None:
    bucket = emptied(rate, 1)
    wait = bucket.wait_ns(wanted, 0)
    assert 0 <= wait <= S
    if wait:
        assert bucket.take(wanted, wait - 1) == 0
    assert bucket.take(wanted, wait) >= 1
