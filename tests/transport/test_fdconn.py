"""`FdConnection` over every kind of fd that sshd, ssh or a terminal may give us."""

from __future__ import annotations

import os
import pty
import socket
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import check_half_closeable_stream, check_two_way_stream, wait_all_tasks_blocked

from tests.support.resources import nothing_left_behind
from zrepl_trio.transport.fdconn import FdConnection

Fds = tuple[int, int]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


def two_pipes() -> tuple[Fds, Fds]:
    a_read, b_write = os.pipe()
    b_read, a_write = os.pipe()
    return (a_read, a_write), (b_read, b_write)


def one_socket_one_fd() -> tuple[Fds, Fds]:
    a, b = (sock.detach() for sock in socket.socketpair())
    return (a, a), (b, b)


def one_socket_two_fds() -> tuple[Fds, Fds]:
    """As sshd on Linux starts its command."""
    a, b = (sock.detach() for sock in socket.socketpair())
    return (a, os.dup(a)), (b, os.dup(b))


def two_sockets() -> tuple[Fds, Fds]:
    """As a Go program or sshd with USE_PIPES might; each socket serves one direction."""
    (a_read, b_write), (b_read, a_write) = (
        (one.detach(), other.detach()) for one, other in (socket.socketpair(), socket.socketpair())
    )
    return (a_read, a_write), (b_read, b_write)


def pipe_and_socket() -> tuple[Fds, Fds]:
    (a_read, a_write), (b_read, b_write) = two_pipes()
    os.close(a_write)
    os.close(b_read)
    one, other = socket.socketpair()
    return (a_read, one.detach()), (other.detach(), b_write)


def tcp() -> tuple[Fds, Fds]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    a, b = one.detach(), other.detach()
    return (a, os.dup(a)), (b, os.dup(b))


KINDS = [two_pipes, one_socket_one_fd, one_socket_two_fds, two_sockets, pipe_and_socket, tcp]
every_kind = pytest.mark.parametrize("kind", KINDS)
Kind = Callable[[], tuple[Fds, Fds]]


def connections(kind: Kind) -> tuple[FdConnection, FdConnection]:
    ours, theirs = kind()
    return (
        FdConnection(*ours, client_identity="ours"),
        FdConnection(*theirs, client_identity="theirs"),
    )


async def clogged(kind: Kind) -> tuple[FdConnection, FdConnection]:
    one, other = connections(kind)
    for connection in (one, other):
        assert connection.write_fd is not None
        with suppress(BlockingIOError):
            while True:
                os.write(connection.write_fd, b"x" * 65536)
    return one, other


def maker(
    kind: Kind, make: Callable[[Kind], Awaitable[tuple[FdConnection, FdConnection]]] | None = None
) -> Callable[[], Awaitable[tuple[FdConnection, FdConnection]]]:
    async def made() -> tuple[FdConnection, FdConnection]:
        await trio.lowlevel.checkpoint()
        return connections(kind) if make is None else await make(kind)

    return made


@every_kind
async def test_passes_trios_two_way_suite(kind: Kind) -> None:
    # A TCP socket's buffers grow when filled, so its "clogged" isn't for long.
    await check_two_way_stream(maker(kind), None if kind is tcp else maker(kind, clogged))


@every_kind
async def test_passes_trios_half_close_suite(kind: Kind) -> None:
    await check_half_closeable_stream(maker(kind), None if kind is tcp else maker(kind, clogged))


@every_kind
async def test_raw_fds_are_reachable_non_blocking_and_gone_after_close(kind: Kind) -> None:
    one, other = connections(kind)
    for connection in (one, other):
        for fd in (connection.read_fd, connection.write_fd):
            assert fd is not None
            assert not os.get_blocking(fd)
    await one.send_eof()
    assert (one.read_fd is None, one.write_fd is None) == (False, True)
    await one.aclose()
    assert (one.read_fd, one.write_fd) == (None, None)
    await other.aclose()


@every_kind
async def test_half_close_reaches_a_peer_though_others_hold_copies_of_a_socket(kind: Kind) -> None:
    ours, theirs = kind()
    copies = [os.dup(fd) for fd in ours]
    is_socket = all(socket_like(fd) for fd in ours)
    async with (
        FdConnection(*ours, client_identity="ours") as one,
        FdConnection(*theirs, client_identity="theirs") as other,
    ):
        await one.send_eof()
        if not is_socket:  # a pipe ends with its last copy: the proxy has to let go of its own
            with trio.move_on_after(0.05) as waited:
                await other.receive_some()
            assert waited.cancelled_caught is (kind is two_pipes)
        for fd in copies if not is_socket else []:
            os.close(fd)
        with trio.fail_after(5):
            assert await other.receive_some() == b""
        await other.send_all(b"still")
        assert await one.receive_some() == b"still"
    for fd in copies if is_socket else []:
        os.close(fd)


def socket_like(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")


@pytest.mark.parametrize("kind", [two_pipes, one_socket_two_fds, two_sockets])
async def test_a_copy_made_blocking_by_others_does_not_block_us(kind: Kind) -> None:
    ours, theirs = kind()
    copies = [os.dup(fd) for fd in ours]
    async with (
        FdConnection(*ours, client_identity="ours") as one,
        FdConnection(*theirs, client_identity="theirs") as other,
    ):
        for fd in copies:
            os.set_blocking(fd, True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.receive_some)
            nursery.start_soon(one.send_all, b"x" * 10_000_000)
            await wait_all_tasks_blocked()  # and not the whole thread
            assert await other.receive_some()
            nursery.cancel_scope.cancel()
    for fd in copies:
        os.close(fd)


async def test_eof_and_data_left_in_a_pipe_before_we_got_it_are_not_lost() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"left")
    os.close(write_fd)
    ours, theirs = socket.socketpair()
    async with FdConnection(read_fd, ours.detach(), client_identity="a") as connection:
        assert await connection.receive_some() == b"left"
        assert connection.read_fd is not None
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(connection.read_fd)
            assert await connection.receive_some() == b""
    theirs.close()


async def test_closing_wakes_those_who_wait() -> None:
    one, other = connections(two_pipes)
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await one.receive_some()

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await one.send_all(b"x" * 10_000_000)

        nursery.start_soon(receive)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await one.aclose()
    await other.aclose()


async def test_on_close_runs_once_after_the_fds_are_closed() -> None:
    ours, theirs = one_socket_two_fds()
    calls = []

    def on_close() -> None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(ours[0])
        calls.append("closed")

    connection = FdConnection(*ours, client_identity="a", on_close=on_close)
    await connection.aclose()
    await connection.aclose()
    assert calls == ["closed"]
    for fd in theirs:
        os.close(fd)


async def test_a_terminal_carries_bytes_and_its_hangup_is_an_end() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    connection = FdConnection(slave, os.dup(slave), client_identity="a")
    os.write(master, b"to us")
    assert await connection.receive_some() == b"to us"
    await connection.send_all(b"from us")
    assert os.read(master, 100) == b"from us"
    os.close(master)
    with trio.fail_after(5):
        with suppress(trio.BrokenResourceError):
            assert await connection.receive_some() == b""
    await connection.aclose()


async def test_named_pipes_serve_as_they_came(tmp_path: Path) -> None:
    """Opened anew, a FIFO whose writer has gone would never show its end."""
    os.mkfifo(tmp_path / "fifo")
    read_fd = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    write_fd = os.open(tmp_path / "fifo", os.O_WRONLY)
    async with FdConnection(read_fd, write_fd, client_identity="a") as connection:
        assert (connection.read_fd, connection.write_fd) == (read_fd, write_fd)
        await connection.send_all(b"round")
        await connection.send_eof()
        assert await connection.receive_some() == b"round"
        assert await connection.receive_some() == b""
