"""The thread behind stdout, on real pipes: nobody who logs ever waits for a reader."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.support.resources import nothing_left_behind, until
from zrepl_trio.logs.queue import QUEUE_BYTES
from zrepl_trio.logs.writer import ThreadWriter


def lost(lines: int) -> bytes:
    return b"%d lost\n" % lines


@contextmanager
def writing(
    fd: int, trouble: Callable[[str], None] = pytest.fail, retry_s: float = 10
) -> Iterator[ThreadWriter]:
    """A writer on `fd`; its thread has ended when the block has."""
    writer = ThreadWriter(fd, trouble=trouble, lost=lost, retry_s=retry_s)
    try:
        yield writer
    finally:
        writer.close()
        writer._thread.join(10)
        assert not writer._thread.is_alive()


async def test_lines_come_out_in_order_and_the_end_waits_for_the_last() -> None:
    reading, writing_end = os.pipe()
    with nothing_left_behind(), writing(writing_end) as writer:
        for number in range(100):
            writer.queue.put(b"%d\n" % number)
        writer.close()
        await writer.drained(10)
        assert os.read(reading, 10_000).split() == [b"%d" % number for number in range(100)]
    os.close(reading)
    os.close(writing_end)


async def test_a_reader_that_never_reads_holds_up_nobody_and_what_is_lost_is_told() -> None:
    reading, writing_end = os.pipe()
    line = b"x" * 999 + b"\n"
    with writing(writing_end) as writer:
        writer.queue.put(b"the oldest\n")
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(reading)
        kept = [writer.queue.put(line) for _ in range(2 * QUEUE_BYTES // len(line))]
        writer.queue.put(b"the newest\n")
        assert kept[0]
        assert not kept[-1]
        writer.close()
        await writer.drained(0.01)  # the end does not wait longer than told either
        assert writer._thread.is_alive()
        os.close(writing_end)
        # It reads after all: the gap is told where it is.
        got = await trio.to_thread.run_sync(read_all, reading)
    assert (got[0], got[-1]) == (b"the oldest", b"the newest")
    told = [int(text.split()[0]) for text in got if text.endswith(b" lost")]
    assert sum(told) > 0
    assert got.count(line[:-1]) + sum(told) == len(kept)


def read_all(fd: int) -> list[bytes]:
    with open(fd, "rb") as file:
        return file.read().splitlines()


async def test_a_reader_that_goes_and_comes_back_gets_what_was_logged_meanwhile(
    tmp_path: Path,
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    end = os.open(fifo, os.O_WRONLY)
    told: list[str] = []
    failed = threading.Event()

    def trouble(why: str) -> None:
        told.append(why)
        failed.set()

    with writing(end, trouble, retry_s=0.02) as writer:
        os.close(first)
        writer.queue.put(b"into the void\n")
        await until(failed.is_set)
        second = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        writer.queue.put(b"to the next\n")
        writer.close()
        await writer.drained(10)
    assert os.read(second, 1000) == b"into the void\nto the next\n"
    assert set(told) == {"Broken pipe"}
    os.close(second)
    os.close(end)


async def test_a_reader_that_is_gone_for_good_does_not_hold_up_the_end() -> None:
    reading, end = os.pipe()
    os.close(reading)
    told: list[str] = []
    with writing(end, told.append, retry_s=1000) as writer:
        writer.queue.put(b"x\n")
    assert told == ["Broken pipe"]
    os.close(end)


async def test_an_fd_that_others_made_non_blocking_is_waited_for() -> None:
    reading, end = os.pipe()
    os.set_blocking(end, False)
    data = b"x" * 200_000 + b"\n"
    with writing(end) as writer:
        writer.queue.put(data)
        got = b""
        while len(got) < len(data):
            got += await trio.to_thread.run_sync(os.read, reading, 65536)
        assert got == data
    os.close(reading)
    os.close(end)
