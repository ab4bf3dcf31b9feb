"""Passed fds: exactly two usable ones, and whatever else came is closed."""

from __future__ import annotations

import array
import os
import resource
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
import trio

from tests.support.resources import nothing_left_behind
from zrepl_trio.transport.fdpass import BadFds, receive_fds


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@contextmanager
def pair() -> Iterator[tuple[trio.socket.SocketType, socket.socket]]:
    ours, theirs = socket.socketpair()
    with trio.socket.from_stdlib_socket(ours) as receiver, theirs:
        yield receiver, theirs


def pass_fds(sock: socket.socket, fds: Sequence[int], data: bytes = b"\0") -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


@contextmanager
def opened(*fds: int) -> Iterator[tuple[int, ...]]:
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


async def test_two_pipes_arrive_in_order_and_close_on_exec() -> None:
    with pair() as (receiver, sender), opened(*os.pipe()) as (read_fd, write_fd):
        pass_fds(sender, [read_fd, write_fd])
        received = await receive_fds(receiver)
        assert received is not None
        assert [os.get_inheritable(fd) for fd in received] == [False, False]
        os.write(received[1], b"through")
        assert os.read(received[0], 10) == b"through"
        for fd in received:
            os.close(fd)


async def test_sockets_and_terminals_are_taken() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, opened(*os.openpty()) as (master, slave), pair() as (receiver, sender):
        for fds in ([ours.fileno(), ours.fileno()], [slave, master]):
            pass_fds(sender, fds)
            received = await receive_fds(receiver)
            assert received is not None
            for fd in received:
                os.close(fd)


@pytest.mark.parametrize("count", [0, 1, 3, 253])
async def test_another_count_is_refused_and_all_are_closed(count: int) -> None:
    with pair() as (receiver, sender), opened(os.open("/dev/null", os.O_RDONLY)) as (fd,):
        if count:
            pass_fds(sender, [fd] * count)
        else:
            sender.send(b"\0")
        with pytest.raises(BadFds, match=f"^{count} fds came"):
            await receive_fds(receiver)


@pytest.mark.parametrize("kind", ["file", "directory", "/dev/null", "datagram", "eventfd"])
async def test_what_is_no_byte_stream_is_refused_and_both_are_closed(kind: str) -> None:
    match kind:
        case "file":
            other, path = tempfile.mkstemp()
            os.unlink(path)
        case "directory":
            other = os.open("/", os.O_RDONLY)
        case "/dev/null":
            other = os.open("/dev/null", os.O_RDWR)
        case "datagram":
            other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
        case _:
            other = os.eventfd(0)
    with opened(other, *os.pipe()) as (bad, read_fd, write_fd), pair() as (receiver, sender):
        for fds, name in (([bad, write_fd], "stdin"), ([read_fd, bad], "stdout")):
            pass_fds(sender, fds)
            with pytest.raises(BadFds, match=f"^{name} is "):
                await receive_fds(receiver)


async def test_a_peer_that_leaves_silently_is_no_error() -> None:
    with pair() as (receiver, sender):
        sender.close()
        assert await receive_fds(receiver) is None


async def test_running_out_of_fds_is_refused_and_none_leak() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pair() as (receiver, sender), opened(*os.pipe()) as fds:
        pass_fds(sender, fds)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        fillers = []
        try:
            with suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            os.close(fillers.pop())  # room for one of the two
            with pytest.raises(BadFds, match="limit on open files"):
                await receive_fds(receiver)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)


async def test_waits_without_blocking_the_others() -> None:
    with pair() as (receiver, _sender):
        with trio.move_on_after(0.01) as scope:
            await receive_fds(receiver)
        assert scope.cancelled_caught
