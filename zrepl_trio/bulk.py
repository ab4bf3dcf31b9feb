"""File descriptors that carry a stream: what the kernel can move between, how much they hold.

`splice(2)` moves pages from a pipe to a socket or pipe, and back, without copying them
(`zrepl_trio.mover`). It is used whenever both ends are fds and one of them is a pipe; TLS, memory
streams and systems without it take the copying path, with the same results.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from zrepl_trio.mover import move
from zrepl_trio.pace import Pace

__all__ = [
    "CHUNK_BYTES",
    "PAUSE_S",
    "PIPE_BYTES",
    "USER_PIPE_BYTES",
    "copy",
    "enlarge",
    "raw_fd",
    "set_pipe_size",
    "spliceable",
    "wait_readable",
]

CHUNK_BYTES = 256 * 1024
"""How much is moved or asked for at once: below 256 KiB Python's share of the CPU shows."""

PIPE_BYTES = 4 * 1024 * 1024
"""The pipe size asked for first: room for some 8 ms of a fast ssh, so that pauses cost nothing."""

USER_PIPE_BYTES = 1024 * 1024
"""The size asked for next: Linux's default `fs.pipe-max-size`, the most without privilege."""

PAUSE_S = 0.001
"""How long the copying path waits for a chunk to grow: trio's sleep is no finer."""

_HAVE_SPLICE = sys.platform == "linux" and hasattr(os, "splice")


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


async def wait_readable(stream: trio.abc.ReceiveStream) -> None:
    """Wait until the fd of a stream that has one can be read, in the stream's own way where it has
    one: a `zfs send`, say, has a limit for it."""
    wait = getattr(stream, "wait_readable", None)
    if wait is not None:
        await wait()
    elif (fd := raw_fd(stream)) is not None:
        await trio.lowlevel.wait_readable(fd)


_SO_SNDBUFFORCE = 32  # <asm-generic/socket.h>; Python does not name it


async def copy(
    reader: trio.abc.ReceiveStream,
    writer: trio.abc.SendStream,
    on_progress: Callable[[int], None] = _ignore,
    pace: Pace | None = None,
) -> int:
    """Move all of `reader` into `writer` up to EOF, at its pace, closing neither; the count of bytes.

    Spliced where both have an fd that allows it. Raises the streams' own trio errors.
    """
    source, target = raw_fd(reader), raw_fd(writer)
    if source is not None and target is not None and spliceable(source, target):
        return await move(
            source,
            target,
            on_progress,
            pace,
            readable=partial(wait_readable, reader),
            writable=writer.wait_send_all_might_not_block,
        )
    pace = pace or Pace()
    total = 0
    while chunk := await reader.receive_some(CHUNK_BYTES):
        view = memoryview(chunk)
        while view:
            count = await pace.take(len(view))
            await writer.send_all(view[:count])
            view = view[count:]
            total += count
            on_progress(count)
    return total
