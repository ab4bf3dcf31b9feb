"""A `Connection` made of two file descriptors: pipes, sockets (one or the same twice), terminals.

The traps:
- `O_NONBLOCK` belongs to the open file, which others may share with us (the proxy, a shell): they
  could switch it off and have us block the whole daemon. So sockets are used with MSG_DONTWAIT,
  and a pipe is opened anew through /proc where we may, which gives us an open file of our own.
- sshd gives its command one socketpair for both directions; closing an fd of it half-closes
  nothing, so sockets are shut down, pipes closed.
- Others may hold copies of our fds; only a shut-down reaches the peer in spite of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio

from zrepl_trio.transport.base import Connection

__all__ = ["FdConnection"]

_RECEIVE_BYTES = 64 * 1024

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.EIO})
"""The peer is gone; EIO is a terminal's way to say it."""


class _Fd:
    """One fd, its kind and its state; `number` is -1 once closed, so no reused number is hit."""

    def __init__(self, number: int) -> None:
        mode = os.fstat(number).st_mode
        self.sock: socket.socket | None = None
        if stat.S_ISFIFO(mode):
            number = _own_open_file(number)
        elif stat.S_ISSOCK(mode):
            self.sock = socket.socket(fileno=number)
        os.set_blocking(number, False)
        self.number = number

    def read(self, max_bytes: int) -> bytes:
        if self.sock is not None:
            return self.sock.recv(max_bytes, socket.MSG_DONTWAIT)
        return os.read(self.number, max_bytes)

    def write(self, data: memoryview) -> int:
        if self.sock is not None:
            return self.sock.send(data, socket.MSG_DONTWAIT)
        return os.write(self.number, data)

    def shut_down(self, how: int) -> None:
        if self.sock is not None:
            with suppress(OSError):  # the peer is gone
                self.sock.shutdown(how)

    def close(self) -> None:
        if self.number == -1:
            return
        number, self.number = self.number, -1
        trio.lowlevel.notify_closing(number)
        if self.sock is not None:
            self.sock.close()
        else:
            os.close(number)


def _own_open_file(fd: int) -> int:
    """The same pipe end through an open file that nobody shares, `fd` closed; `fd` itself where
    that can't be (no /proc, a pipe of another user) or, for named FIFOs, would lose an EOF."""
    link = f"/proc/self/fd/{fd}"
    try:
        if not os.readlink(link).startswith("pipe:"):
            return fd
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        own = os.open(link, access | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd
    os.close(fd)
    return own


class FdConnection(Connection):
    """Owns the two fds it is given, which may be one and the same.

    `on_close` is called once, after the fds have been closed; it must not block or raise.
    Pending calls in other tasks get ClosedResourceError when it is closed.
    """

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        client_identity: str,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.client_identity = client_identity
        self._on_close = on_close
        self._reader = _Fd(read_fd)
        self._writer = self._reader if read_fd == write_fd else _Fd(write_fd)
        self._send_over = False
        self._closed = False
        self._sending = False
        self._receiving = False

    @property
    def read_fd(self) -> int | None:
        return None if self._closed else self._reader.number

    @property
    def write_fd(self) -> int | None:
        return None if self._closed or self._send_over else self._writer.number

    @contextmanager
    def _sole_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def _check_can_send(self) -> None:
        if self._closed or self._send_over:
            raise trio.ClosedResourceError("our sending side is closed")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sole_sender():
            self._check_can_send()
            await trio.lowlevel.checkpoint()
            left = memoryview(data)
            while left:
                self._check_can_send()
                try:
                    left = left[self._writer.write(left) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._writer.number)
                except OSError as error:
                    raise _translated(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        with self._sole_sender():
            self._check_can_send()
            await trio.lowlevel.checkpoint()
            self._check_can_send()
            await trio.lowlevel.wait_writable(self._writer.number)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is None:
            max_bytes = _RECEIVE_BYTES
        elif not isinstance(max_bytes, int):
            raise TypeError("max_bytes must be an int")
        elif max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._receiving = True
        try:
            # Before the read: a cancel after it would lose bytes.
            await trio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("the connection is closed")
                try:
                    return self._reader.read(max_bytes)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._reader.number)
                except OSError as error:
                    raise _translated(error) from error
        finally:
            self._receiving = False

    async def send_eof(self) -> None:
        with self._sole_sender():
            if self._closed:
                raise trio.ClosedResourceError("the connection is closed")
            if not self._send_over:
                self._send_over = True
                if self._writer.sock is not None:
                    self._writer.shut_down(socket.SHUT_WR)
                elif self._writer is not self._reader:
                    self._writer.close()
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """As `aclose`, for those who can't await."""
        if self._closed:
            return
        self._closed = True
        for fd in (self._writer, self._reader):
            fd.shut_down(socket.SHUT_RDWR)
            fd.close()
        if self._on_close is not None:
            self._on_close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


def _translated(error: OSError) -> Exception:
    if error.errno in _GONE:
        return trio.BrokenResourceError(str(error))
    return error
