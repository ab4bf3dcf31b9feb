"""The movers: splice and copy give the same bytes, notice every kind of end, and let go."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio

from zrepl_trio import bulk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")

DATA = bytes(range(256)) * 4096 * 3  # 3 MiB: more than a pipe holds


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


_OPEN: set[int] = set()


def _closing(stack: ExitStack, fd: int) -> int:
    _OPEN.add(fd)
    stack.callback(_close, fd)
    return fd


def _close(fd: int) -> None:
    """Once only: the number may be somebody else's by the second time."""
    if fd in _OPEN:
        _OPEN.remove(fd)
        os.close(fd)


def _pipe(stack: ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return _closing(stack, read), _closing(stack, write)


def _socketpair(stack: ExitStack) -> tuple[int, int]:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    return _closing(stack, one.detach()), _closing(stack, two.detach())


async def _feed(fd: int, data: bytes, piece: int = 65536) -> None:
    pacer = bulk.Pacer()
    for at in range(0, len(data), piece):
        await bulk.write_all(fd, data[at : at + piece], pacer)
    _close(fd)


async def _drain(fd: int, into: bytearray) -> None:
    pacer = bulk.Pacer()
    while part := await bulk.read_exactly(fd, 50_000, pacer):
        into += part


@pytest.mark.parametrize("source_kind", ["pipe", "socket"])
@pytest.mark.parametrize("target_kind", ["pipe", "socket"])
async def test_copy_moves_every_byte(stack: ExitStack, source_kind: str, target_kind: str) -> None:
    feed_read, feed_write = (_pipe if source_kind == "pipe" else _socketpair)(stack)
    out_read, out_write = (_pipe if target_kind == "pipe" else _socketpair)(stack)
    got = bytearray()
    moved: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, feed_write, DATA)
        nursery.start_soon(_drain, out_read, got)
        reader = trio.lowlevel.FdStream(os.dup(feed_read))
        writer = trio.lowlevel.FdStream(os.dup(out_write))
        async with reader, writer:
            assert await bulk.copy(reader, writer, moved.append) == len(DATA)
        _close(out_write)
    assert got == DATA
    assert sum(moved) == len(DATA)


async def test_copy_takes_streams_without_fds() -> None:
    feed, reader = trio.testing.memory_stream_one_way_pair()
    writer, out = trio.testing.memory_stream_one_way_pair()
    await feed.send_all(DATA)
    await feed.aclose()
    assert bulk.raw_fd(reader) is None
    assert await bulk.copy(reader, writer) == len(DATA)
    await writer.aclose()
    assert b"".join([part async for part in out]) == DATA


def test_spliceable_needs_a_pipe_and_no_file(stack: ExitStack) -> None:
    pipe_read, pipe_write = _pipe(stack)
    one, two = _socketpair(stack)
    null = _closing(stack, os.open("/dev/null", os.O_RDWR))
    assert bulk.spliceable(pipe_read, pipe_write)
    assert bulk.spliceable(one, pipe_write)
    assert bulk.spliceable(pipe_read, two)
    assert not bulk.spliceable(one, two)
    assert not bulk.spliceable(pipe_read, null)
    assert not bulk.spliceable(None, pipe_write)


async def test_move_exactly_stops_at_the_count(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    out_read, out_write = _pipe(stack)
    os.write(write, b"payload|next header")
    assert await bulk.move_exactly(read, out_write, 7, bulk.Pacer()) == 7
    assert os.read(out_read, 100) == b"payload"
    assert os.read(read, 100) == b"|next header"


async def test_move_exactly_tells_an_early_end(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    _, out_write = _pipe(stack)
    os.write(write, b"abc")
    _close(write)
    assert await bulk.move_exactly(read, out_write, 10, bulk.Pacer()) == 3


async def test_a_gone_target_is_a_broken_resource(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    out_read, out_write = _pipe(stack)
    os.write(write, b"abc")
    _close(out_read)
    with pytest.raises(trio.BrokenResourceError):
        await bulk.move_exactly(read, out_write, 3, bulk.Pacer())
    with pytest.raises(trio.BrokenResourceError):
        await bulk.write_all(out_write, b"x", bulk.Pacer())


async def test_gather_waits_for_enough_and_gives_up_on_a_slow_source(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    os.write(write, b"x" * 100)
    assert await bulk.gather(read, 1000, bulk.Pacer(read)) == 100
    os.write(write, b"x" * 4000)
    assert await bulk.gather(read, 1000, bulk.Pacer(read)) == 4100


async def test_gather_shows_an_end_as_zero_bytes(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    _close(write)
    assert await bulk.gather(read, 1000, bulk.Pacer(read)) == 0
    assert os.read(read, 1) == b""


async def test_small_pieces_that_fill_the_slots_of_a_pipe_still_move(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    middle_read, middle_write = _pipe(stack)
    # spliced pieces keep their slot each: 16 of them fill a default pipe with a few bytes
    held = 0
    while True:
        os.write(write, b"piece")
        try:
            held += os.splice(read, middle_write, 5, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            break
    assert held < 1000
    assert await bulk.gather(middle_read, bulk.CHUNK_BYTES, bulk.Pacer()) == held
    _, out_write = _pipe(stack)
    assert await bulk.move_exactly(middle_read, out_write, held, bulk.Pacer()) == held


@pytest.mark.parametrize(
    ("mib_a_second", "pause_ms"),
    [(0, 1), (1, 5), (100, 5), (200, 2), (500, 1), (600, 0), (800, 0), (3000, 0)],
)
def test_a_pause_leaves_a_mebibyte_pipe_neither_full_nor_empty(
    mib_a_second: int, pause_ms: int
) -> None:
    assert bulk.pause_for(mib_a_second * 2**20, 2**20) == pytest.approx(pause_ms / 1000)


@pytest.mark.parametrize("full", [False, True], ids=["waiting to read", "waiting to write"])
async def test_a_waiting_mover_can_be_cancelled_and_leaves_the_fds_usable(
    stack: ExitStack, full: bool
) -> None:
    read, write = _pipe(stack)
    out_read, out_write = _pipe(stack)
    filled = 0
    if full:
        os.write(write, b"abc")
        filled = os.write(out_write, b"f" * 2**20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulk.move_exactly, read, out_write, 10, bulk.Pacer())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    if full:
        assert len(os.read(out_read, 2**21)) == filled
    os.write(write, b"def")
    assert await bulk.move_exactly(read, out_write, 3, bulk.Pacer()) == 3


async def test_a_mover_that_never_stalls_lets_other_tasks_run(stack: ExitStack) -> None:
    read, write = _pipe(stack)
    out_read, out_write = _pipe(stack)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        nursery.start_soon(_feed, write, DATA)
        nursery.start_soon(_drain, out_read, got)
        await bulk.move(read, out_write)
        _close(out_write)
        while len(got) < len(DATA):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert turns > 1


def test_a_refused_pipe_size_is_no_error(stack: ExitStack) -> None:
    read, _ = _pipe(stack)
    one, _ = _socketpair(stack)
    assert bulk.set_pipe_size(read, 131072) == 131072
    assert bulk.set_pipe_size(one) == 0
