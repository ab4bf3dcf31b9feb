"""The mover: every byte once, every kind of end told, no waiting without end, and it lets go."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import trio

from tests.support.resources import cancel_at_each_step, nothing_left_behind
from zrepl_trio import mover
from zrepl_trio.mover import LONGEST_NAP_S, NAP_S, SHORTEST_NAP_S, Mover, Stop, next_nap
from zrepl_trio.pace import Pace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")

DATA = bytes(range(256)) * 4096 * 3  # 3 MiB: more than a pipe holds


class Pipe:
    """A pipe, both ends non-blocking; closed at the test's end, if not before."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self._open = {self.read, self.write}
        for fd in self._open:
            os.set_blocking(fd, False)

    def close(self, *fds: int) -> None:
        for fd in fds or tuple(self._open):
            self._open.remove(fd)
            os.close(fd)

    def fill(self) -> int:
        """Write until it is full; how many bytes it took."""
        return os.write(self.write, b"f" * 2**21)


@pytest.fixture
def source() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def target() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def moving(source: Pipe, target: Pipe) -> Mover:
    made = Mover(source.read, target.write)
    made.begin_turn()
    return made


def test_splice_stops_at_the_count(source: Pipe, target: Pipe, moving: Mover) -> None:
    os.write(source.write, b"payload|next header")
    assert moving.splice(7) == (7, None)
    assert os.read(target.read, 100) == b"payload"
    assert os.read(source.read, 100) == b"|next header"


def test_splice_tells_an_end_before_its_count(source: Pipe, moving: Mover) -> None:
    os.write(source.write, b"abc")
    source.close(source.write)
    assert moving.splice(10) == (3, Stop.END)


def test_splice_tells_which_side_makes_it_wait(source: Pipe, target: Pipe, moving: Mover) -> None:
    assert moving.splice(10) == (0, Stop.SOURCE)
    target.fill()
    os.write(source.write, b"abc")
    moving.begin_turn()
    assert moving.splice(10) == (0, Stop.TARGET)


def test_write_and_read_give_what_they_did(source: Pipe, target: Pipe, moving: Mover) -> None:
    assert moving.write(b"header") == (6, None)
    assert os.read(target.read, 100) == b"header"
    os.write(source.write, b"answer")
    assert moving.read(4) == (b"answ", None)
    assert moving.read(4) == (b"er", None)
    assert moving.read(4) == (b"", Stop.SOURCE)
    target.fill()
    moving.begin_turn()
    assert moving.write(b"more") == (0, Stop.TARGET)
    source.close(source.write)
    assert moving.read(4) == (b"", Stop.END)


def test_a_gone_reader_is_a_broken_resource(source: Pipe, target: Pipe, moving: Mover) -> None:
    os.write(source.write, b"abc")
    target.close(target.read)
    with pytest.raises(trio.BrokenResourceError):
        moving.splice(3)
    with pytest.raises(trio.BrokenResourceError):
        moving.write(b"x")


def test_gather_waits_for_enough_and_gives_up_on_a_slow_source(source: Pipe, moving: Mover) -> None:
    os.write(source.write, b"x" * 100)
    assert moving.gather(1000) == 100
    os.write(source.write, b"x" * 4000)
    assert moving.gather(1000) == 4100


def test_gather_of_nothing_has_patience_but_not_at_the_end(source: Pipe, moving: Mover) -> None:
    naps: list[Stop] = []
    moving.nap = lambda: naps.append(Stop.SOURCE) or len(naps) < 5  # type: ignore[method-assign, func-returns-value]
    assert moving.gather(1000) == 0
    assert len(naps) == 5
    source.close(source.write)
    assert moving.gather(1000) == 0
    assert len(naps) == 5


def test_small_pieces_that_fill_the_slots_of_a_pipe_still_move(source: Pipe, target: Pipe) -> None:
    middle = Pipe()
    # spliced pieces keep their slot each: 16 of them fill a default pipe with a few bytes
    held = 0
    while True:
        os.write(source.write, b"piece")
        try:
            held += os.splice(source.read, middle.write, 5, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            break
    assert held < 1000
    moving = Mover(middle.read, target.write)
    moving.begin_turn()
    assert moving.gather(mover.capacity(middle.read) // 2) == held
    assert moving.splice(held) == (held, None)
    middle.close()


@pytest.mark.parametrize(
    ("nap_s", "share", "mib", "then"),
    [
        (NAP_S, 1.0, 1, NAP_S * 0.7),
        (NAP_S, 0.5, 1, NAP_S),
        (NAP_S, 0.2, 1, NAP_S),
        (NAP_S, 0.2, 4, NAP_S * 1.3),
        (NAP_S, 0.2, 1 / 16, NAP_S),
        (NAP_S / 2, 0.2, 1, NAP_S * 0.65),
        (NAP_S, 0.01, 1, NAP_S * 1.3),
        (SHORTEST_NAP_S, 1.0, 1, SHORTEST_NAP_S),
        (LONGEST_NAP_S, 0.0, 1, LONGEST_NAP_S),
        (LONGEST_NAP_S, 0.2, 1, LONGEST_NAP_S),
        (LONGEST_NAP_S, 0.2, 64, LONGEST_NAP_S),
    ],
)
def test_a_nap_follows_the_share_of_the_buffer_that_passes(
    nap_s: float, share: float, mib: float, then: float
) -> None:
    assert next_nap(nap_s, share, int(mib * 2**20)) == pytest.approx(then)


def test_a_nap_that_caps_a_stream_does_not_justify_itself() -> None:
    nap_s = LONGEST_NAP_S
    for _ in range(20):
        # the other side fills the whole buffer in a tenth of a millisecond
        nap_s = next_nap(nap_s, min(1.0, nap_s / 0.0001), 2**20)
    assert nap_s == SHORTEST_NAP_S


async def _feed(pipe: Pipe, data: bytes) -> None:
    async with trio.lowlevel.FdStream(os.dup(pipe.write)) as stream:
        pipe.close(pipe.write)
        await stream.send_all(data)


async def _drain(pipe: Pipe, into: bytearray) -> None:
    async with trio.lowlevel.FdStream(os.dup(pipe.read)) as stream:
        while part := await stream.receive_some(50_000):
            into += part


def _ignore(_count: int) -> None:
    return


async def test_move_moves_all_and_lets_other_tasks_run(source: Pipe, target: Pipe) -> None:
    got = bytearray()
    moved: list[int] = []
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        async with trio.open_nursery() as movers:
            movers.start_soon(_feed, source, DATA)
            movers.start_soon(_drain, target, got)
            assert await mover.move(source.read, target.write, moved.append) == len(DATA)
            target.close(target.write)
        nursery.cancel_scope.cancel()
    assert got == DATA
    assert sum(moved) == len(DATA)
    assert turns > 1


async def test_a_stream_moves_no_more_than_its_pace_lets(source: Pipe, target: Pipe) -> None:
    class Counting(Pace):
        let = 0

        async def take(self, wanted: int) -> int:
            await trio.lowlevel.checkpoint()
            self.let += 1000
            return 1000

        def give_back(self, count: int) -> None:
            self.let -= count

    pace = Counting()
    got = bytearray()
    moved: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, source, DATA[:50_500])
        nursery.start_soon(_drain, target, got)
        assert await mover.move(source.read, target.write, moved.append, pace) == 50_500
        target.close(target.write)
    assert got == DATA[:50_500]
    assert max(moved) <= 1000
    assert pace.let == 50_500


@pytest.mark.parametrize("full", [False, True], ids=["waiting to read", "waiting to write"])
async def test_a_mover_that_waits_uses_no_thread_and_can_be_cancelled(
    source: Pipe, target: Pipe, full: bool
) -> None:
    filled = 0
    if full:
        filled = target.fill()
        os.write(source.write, b"abc")
    with nothing_left_behind():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.move, source.read, target.write, _ignore)
            await trio.testing.wait_all_tasks_blocked(0.1)
            limiter = mover._limiter.get()
            assert limiter.borrowed_tokens == 0
            nursery.cancel_scope.cancel()
    if full:
        assert len(os.read(target.read, 2**21)) == filled
    os.write(source.write, b"def")
    source.close(source.write)
    assert await mover.move(source.read, target.write, _ignore) == (6 if full else 3)


async def test_a_cancelled_move_waits_for_its_thread_and_loses_no_byte(
    source: Pipe, target: Pipe
) -> None:
    got = bytearray()
    moved: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, target, got)
        async with trio.open_nursery() as feeding:
            feeding.start_soon(_feed, source, DATA)
            with trio.CancelScope() as scope:

                def cancel(count: int) -> None:
                    moved.append(count)
                    scope.cancel()

                await mover.move(source.read, target.write, cancel)
            assert scope.cancelled_caught or sum(moved) == len(DATA)
            rest = await mover.move(source.read, target.write, _ignore)
        target.close(target.write)
    assert sum(moved) + rest == len(DATA)
    assert got == DATA


async def test_a_turn_in_a_thread_ends_before_its_cancelled_task_does() -> None:
    inside = threading.Event()
    ended: list[float] = []

    def turn() -> None:
        inside.set()
        time.sleep(0.05)
        ended.append(time.monotonic())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mover.in_thread, turn)
        while not inside.is_set():
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert ended


@pytest.mark.slow
async def test_a_move_cancelled_anywhere_leaves_nothing() -> None:
    async def operation() -> None:
        source, target = Pipe(), Pipe()
        try:
            os.write(source.write, b"x" * 60_000)
            source.close(source.write)
            assert await mover.move(source.read, target.write, _ignore) == 60_000
        finally:
            source.close()
            target.close()

    await cancel_at_each_step(operation)


async def test_what_a_turn_raises_comes_bare() -> None:
    def turn() -> int:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await mover.in_thread(turn)
