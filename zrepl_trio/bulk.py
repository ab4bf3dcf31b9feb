"""Moving a stream's bytes between file descriptors, never through Python where the kernel can.

`splice(2)` moves pages from a pipe to a socket or pipe, and back, without copying them. It is used
whenever both ends are fds and one of them is a pipe; TLS, memory streams and systems without it
take the copying path, with the same results.

Traps that shaped this file:
- A `wait_writable` on a full pipe returns as soon as one page is free, so naive waiting moves a
  page a wake-up. Pausing about a millisecond first lets the other side work in bulk, and cuts
  the CPU time of a busy relay by three.
- FIONREAD = 0 on a readable pipe is not EOF; only a read of 0 bytes is.
- A pipe holds a bounded number of *pieces*, not only of bytes: many small writes fill it before
  its size is reached, so "wait until N bytes are there" must give up when nothing more comes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import sys
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

__all__ = [
    "CHUNK_BYTES",
    "LONGEST_PAUSE_S",
    "PAUSE_S",
    "PIPE_BYTES",
    "USER_PIPE_BYTES",
    "Pacer",
    "capacity",
    "copy",
    "enlarge",
    "gather",
    "move",
    "move_exactly",
    "pause_for",
    "pending_bytes",
    "raw_fd",
    "read_exactly",
    "set_pipe_size",
    "spliceable",
    "write_all",
]

CHUNK_BYTES = 256 * 1024
"""How much is moved or asked for at once: below 256 KiB Python's share of the CPU shows."""

PIPE_BYTES = 4 * 1024 * 1024
"""The pipe size asked for first: room for some 8 ms of a fast ssh, so that pauses cost nothing."""

USER_PIPE_BYTES = 1024 * 1024
"""The size asked for next: Linux's default `fs.pipe-max-size`, the most without privilege."""

PAUSE_S = 0.001
"""How long a mover pauses at least, if at all: trio's sleep is no finer."""

LONGEST_PAUSE_S = 0.005
"""How long it pauses at most, so that a slow stream is not late by more than that."""

_HAVE_SPLICE = sys.platform == "linux" and hasattr(os, "splice")
_SPLICE_NONBLOCK = getattr(os, "SPLICE_F_NONBLOCK", 2)
_SPLICE_MOVE = getattr(os, "SPLICE_F_MOVE", 1)


def _ignore(_what: int) -> None:
    return


def raw_fd(stream: object) -> int | None:
    """The fd behind a stream, None when there is none (TLS, memory)."""
    fileno = getattr(stream, "fileno", None)
    if not callable(fileno):
        return None
    fd = fileno()
    return fd if isinstance(fd, int) and fd >= 0 else None


def spliceable(source: int | None, target: int | None) -> bool:
    """Whether the kernel can move bytes between these two: both fds, one of them a pipe, the
    other a pipe or socket."""
    if not _HAVE_SPLICE or source is None or target is None:
        return False
    modes = [os.fstat(source).st_mode, os.fstat(target).st_mode]
    return any(stat.S_ISFIFO(m) for m in modes) and all(
        stat.S_ISFIFO(m) or stat.S_ISSOCK(m) for m in modes
    )


def set_pipe_size(fd: int, size: int = PIPE_BYTES) -> int:
    """Ask for a larger pipe; its size in bytes afterwards, 0 where it cannot be told.

    Refusals (not a pipe, over `fs.pipe-max-size`, over the user's pipe budget) are not errors.
    """
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        return 0
    for wanted in (size, min(size, USER_PIPE_BYTES)):
        with suppress(OSError):
            return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, wanted)
    with suppress(OSError):
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    return 0


def enlarge(fd: int) -> None:
    """Ask for more room in a pipe, or in a socket's sending direction; refusals are no errors.

    A UNIX socket holds what its sender's buffer allows, 208 KiB by default; root may go
    beyond `net.core.wmem_max`.
    """
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        set_pipe_size(fd)
        return
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        for option in (getattr(socket, "SO_SNDBUFFORCE", _SO_SNDBUFFORCE), socket.SO_SNDBUF):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, PIPE_BYTES)
                return


_SO_SNDBUFFORCE = 32  # <asm-generic/socket.h>; Python does not name it


def capacity(fd: int) -> int:
    """About how many bytes fit between the two ends of a pipe or local socket."""
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            # the kernel doubles the wish to leave room for its bookkeeping
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        with suppress(OSError):
            return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    return 65536


def pending_bytes(fd: int) -> int:
    """How many bytes can be read at once (FIONREAD); 0 says nothing about EOF."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])


class Pacer:
    """Decides how one mover waits on an empty or full fd; one a direction and task.

    It pauses so that bytes gather: for whole milliseconds, since a finer sleep is rounded up, and for
    so many that at the rate of the last moments half of the smallest buffer on the way passes,
    LONGEST_PAUSE_S at most. On a stream so fast that more of it passes in one, a pause would
    leave the buffer full or empty; there it lets the other process run (`sched_yield`, a few
    times), then waits for the fd.
    """

    __slots__ = ("_bytes", "_pause_s", "_since", "_smallest", "_stalls")

    def __init__(self, *fds: int) -> None:
        self._smallest = min((capacity(fd) for fd in fds), default=PIPE_BYTES)
        self._pause_s = PAUSE_S
        self._stalls = 0
        self._bytes = 0
        self._since = trio.current_time()

    def moved(self, count: int) -> None:
        """Bytes went through: the stall, if there was one, is over."""
        self._stalls = 0
        self._bytes += count

    async def wait(self, awaken: Callable[[int], Awaitable[None]], fd: int) -> None:
        """One step of waiting; the caller tries again after it. `awaken(fd)` waits for the fd."""
        self._stalls += 1
        if self._stalls == 1 and await self.pause():
            self._stalls = _YIELDS  # the next step is to be woken
        elif self._stalls <= _YIELDS:
            os.sched_yield()
        else:
            await awaken(fd)

    async def pause(self) -> bool:
        """Pause if that costs no throughput; whether it did."""
        now = trio.current_time()
        if (elapsed := now - self._since) > _RATE_WINDOW_S:
            self._pause_s = pause_for(self._bytes / elapsed, self._smallest)
            self._bytes = 0
            self._since = now
        if not self._pause_s:
            return False
        await trio.sleep(self._pause_s)
        return True


def pause_for(rate: float, buffer: int) -> float:
    """How long to pause, in seconds, on a stream of `rate` bytes a second through a `buffer` of so
    many bytes; 0 = not at all."""
    each = rate * PAUSE_S
    if each > buffer * 0.55:
        return 0.0
    return PAUSE_S * (max(1, min(int(buffer / 2 / each), _LONGEST)) if each else 1)


_LONGEST = round(LONGEST_PAUSE_S / PAUSE_S)
_YIELDS = 4
_GATHER_TURNS = 8
_RATE_WINDOW_S = 0.02


async def gather(fd: int, wanted: int, pacer: Pacer) -> int:
    """Wait until the pipe `fd` holds `wanted` bytes or stops filling up; how many it holds.

    `wanted` should be well below the pipe's capacity. 0 means that the pipe was readable with
    nothing in it: read it to tell EOF.
    """
    held = pending_bytes(fd)
    if held == 0:
        await trio.lowlevel.wait_readable(fd)
        held = pending_bytes(fd)
    for turn in range(_GATHER_TURNS):
        if not 0 < held < wanted:
            break
        if not await pacer.pause():
            # a fast source: a frame of a decent size is worth no more waiting
            if held >= CHUNK_BYTES:
                break
            os.sched_yield()
        now = pending_bytes(fd)
        if now == held and turn:
            break
        held = now
    return held


async def read_exactly(
    fd: int, count: int, pacer: Pacer, on_wait: Callable[[bool], None] = _ignore
) -> bytes:
    """`count` bytes from a non-blocking fd, fewer only at EOF. For frame headers: a cancel
    loses what was read of them. `on_wait` as in `move_exactly`."""
    parts = b""
    while len(parts) < count:
        try:
            part = os.read(fd, count - len(parts))
        except BlockingIOError:
            on_wait(True)
            await pacer.wait(trio.lowlevel.wait_readable, fd)
            continue
        if not part:
            break
        parts += part
    return parts


async def write_all(
    fd: int, data: bytes, pacer: Pacer, on_wait: Callable[[bool], None] = _ignore
) -> None:
    """Write all of `data` to a non-blocking fd; BrokenResourceError when the peer is gone.
    `on_wait` as in `move_exactly`."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            on_wait(False)
            await pacer.wait(trio.lowlevel.wait_writable, fd)
        except OSError as error:
            if error.errno in {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}:
                raise trio.BrokenResourceError(str(error)) from error
            raise


async def move_exactly(
    source: int,
    target: int,
    count: int,
    pacer: Pacer,
    on_progress: Callable[[int], None] = _ignore,
    on_wait: Callable[[bool], None] = _ignore,
) -> int:
    """Splice `count` bytes from `source` to `target` as they come and are taken.

    Gives how many were moved: less than `count` only when `source` ended. Both fds must be
    non-blocking and stay open; neither is closed. `on_progress` gets each piece's size;
    `on_wait` is told before each wait whether it is for the source (else for the target), which
    a silence limit needs. Raises BrokenResourceError when the target's reader is gone, OSError
    for what the source's read gives. When cancelled, a part may have been moved.
    """
    left = count

    async def awaken(source: int) -> None:
        # EAGAIN does not tell which side it came from
        if pending_bytes(source):
            on_wait(False)
            await trio.lowlevel.wait_writable(target)
        else:
            on_wait(True)
            await trio.lowlevel.wait_readable(source)

    while left:
        try:
            moved = os.splice(source, target, left, flags=_SPLICE_NONBLOCK | _SPLICE_MOVE)
        except BlockingIOError:
            await pacer.wait(awaken, source)
            continue
        except BrokenPipeError as error:
            raise trio.BrokenResourceError(str(error)) from error
        if moved == 0:
            break
        pacer.moved(moved)
        left -= moved
        on_progress(moved)
    return count - left


_TURN_BYTES = 16 * 1024 * 1024


async def move(source: int, target: int, on_progress: Callable[[int], None] = _ignore) -> int:
    """Splice all of `source` into `target` up to EOF; the count of bytes."""
    total = 0
    pacer = Pacer(source, target)
    while True:
        # a pair of fast pipes never stalls: give the other tasks their turn
        await trio.lowlevel.checkpoint()
        moved = await move_exactly(source, target, _TURN_BYTES, pacer, on_progress)
        total += moved
        if moved < _TURN_BYTES:
            return total


async def copy(
    reader: trio.abc.ReceiveStream,
    writer: trio.abc.SendStream,
    on_progress: Callable[[int], None] = _ignore,
) -> int:
    """Move all of `reader` into `writer` up to EOF, closing neither; the count of bytes.

    Spliced where both have an fd that allows it. Raises the streams' own trio errors.
    """
    source, target = raw_fd(reader), raw_fd(writer)
    if source is not None and target is not None and spliceable(source, target):
        return await move(source, target, on_progress)
    total = 0
    while chunk := await reader.receive_some(CHUNK_BYTES):
        await writer.send_all(chunk)
        total += len(chunk)
        on_progress(len(chunk))
    return total
