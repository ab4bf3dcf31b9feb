"""Waiting for a limit: its rate is kept, streams share it, and nothing is held meanwhile."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.endpoint import BytesSink
from zrepl_trio import bulk
from zrepl_trio.pace import Pace, Throttle

MIB = 1 << 20


async def spend(pace: Pace, size: int, *, piece: int = MIB) -> float:
    """Take `size` bytes, moving each piece in no time; how long it took."""
    start = trio.current_time()
    while size:
        size -= await pace.take(min(size, piece))
    return trio.current_time() - start


async def test_without_a_limit_all_is_let_at_once(autojump_clock: MockClock) -> None:
    pace = Pace(None)
    with trio.CancelScope() as scope:
        scope.cancel()  # and no checkpoint is met
        assert await pace.take(1 << 40) == 1 << 40
    assert not scope.cancelled_caught


@pytest.mark.parametrize("rate", [1, 100, 30_000, MIB, 1000 * MIB])
async def test_the_rate_is_kept(rate: int, autojump_clock: MockClock) -> None:
    throttle = Throttle(rate, 1)
    pace = Pace(throttle)
    await spend(pace, throttle._bucket.burst, piece=rate)
    # whatever a take gives, the next waits for: in the end a grain may be left over
    assert await spend(pace, rate * 5, piece=rate) == pytest.approx(5, abs=0.011)


async def test_a_burst_comes_first_and_comes_back(autojump_clock: MockClock) -> None:
    pace = Pace(Throttle(MIB, 10 * MIB))
    assert await spend(pace, 10 * MIB) == 0
    assert await spend(pace, MIB) == pytest.approx(1, abs=0.01)
    await trio.sleep(60)
    assert await spend(pace, 10 * MIB) == 0


async def test_what_did_not_move_is_given_back(autojump_clock: MockClock) -> None:
    pace = Pace(Throttle(MIB, MIB))
    for _ in range(100):
        taken = await pace.take(MIB)
        assert taken == MIB
        pace.give_back(taken)
    assert trio.current_time() == 0


@pytest.mark.parametrize("pieces", [(MIB, MIB, MIB), (MIB, 5000, 600)])
async def test_streams_share_it_fairly(pieces: tuple[int, ...], autojump_clock: MockClock) -> None:
    throttle = Throttle(300_000, 1)
    moved = [0] * len(pieces)

    async def stream(index: int, piece: int) -> None:
        pace = Pace(throttle)
        while True:
            moved[index] += await pace.take(piece)

    with trio.move_on_after(5):
        async with trio.open_nursery() as nursery:
            for index, piece in enumerate(pieces):
                nursery.start_soon(stream, index, piece)
    assert sum(moved) == pytest.approx(300_000 * 5, rel=0.02)
    # each has its turn; who asks for less than a grain gets what it asks for
    turns = [count / min(piece, 3000) for count, piece in zip(moved, pieces, strict=True)]
    assert max(turns) <= min(turns) * 1.05


async def test_the_lower_of_two_limits_holds_and_the_higher_keeps_the_rest(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = Throttle(10_000, 10_000), Throttle(40_000, 1)
    pace = Pace(ours)
    pace.keep_to(theirs)
    pace.keep_to(None)
    assert await spend(pace, 100_000 + 10_000) == pytest.approx(10, rel=0.02)
    # 40,000 a second less what the first stream takes
    other = Pace(theirs)
    assert await spend(other, 400_000) == pytest.approx(10, rel=0.02)


async def test_a_stream_that_is_cancelled_leaves_the_turn_to_the_next(
    autojump_clock: MockClock,
) -> None:
    throttle = Throttle(1000, 2000)
    first, second = Pace(throttle), Pace(throttle)
    assert await spend(first, 2000) == 0
    with trio.move_on_after(0.5) as scope:
        await first.take(1000)
    assert scope.cancelled_caught
    assert await second.take(1000) == 1000
    assert trio.current_time() == pytest.approx(1, abs=0.001)


async def test_a_copy_keeps_to_it(autojump_clock: MockClock) -> None:
    reader = trio.testing.MemoryReceiveStream()
    reader.put_data(bytes(MIB))
    reader.put_eof()
    sink = BytesSink()
    moved: list[int] = []
    assert await bulk.copy(reader, sink, moved.append, Pace(Throttle(MIB // 10, 1))) == MIB
    assert trio.current_time() == pytest.approx(10, rel=0.01)
    assert len(sink.data) == sum(moved) == MIB
    assert max(moved) <= MIB // 10
