"""Copying between streams, whatever is below them, and what file descriptors can."""

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


async def _feed(fd: int, data: bytes) -> None:
    async with trio.lowlevel.FdStream(os.dup(fd)) as stream:
        _close(fd)
        await stream.send_all(data)


async def _drain(fd: int, into: bytearray) -> None:
    async with trio.lowlevel.FdStream(os.dup(fd)) as stream:
        while part := await stream.receive_some(50_000):
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


def test_a_refused_pipe_size_is_no_error(stack: ExitStack) -> None:
    read, _ = _pipe(stack)
    one, _ = _socketpair(stack)
    assert bulk.set_pipe_size(read, 131072) == 131072
    assert bulk.set_pipe_size(one) == 0
