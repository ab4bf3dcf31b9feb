"""Receiving file descriptors over a UNIX socket (SCM_RIGHTS), and checking what they are.

Whoever may connect could pass anything: too many, none, a file, a directory, a kvm handle.
"""

from __future__ import annotations

import array
import os
import socket
import stat
from collections.abc import Sequence

import trio

__all__ = ["BadFds", "PassedFds", "receive_fds"]

PassedFds = tuple[int, int]
"""(read from, write to): the proxy's stdin and stdout, owned by the receiver, CLOEXEC."""

_SCM_MAX_FD = 253
"""The most that Linux passes in one message (unix(7)), so that extras can be received and closed."""

_FD_BYTES = array.array("i").itemsize
_ANCILLARY_BYTES = socket.CMSG_SPACE(_SCM_MAX_FD * _FD_BYTES)


class BadFds(Exception):
    """What came is not two usable fds; all that came are closed."""


async def receive_fds(sock: trio.socket.SocketType) -> PassedFds | None:
    """Wait for one message with exactly two fds, each a pipe, a stream socket or a terminal.

    None when the peer left without a word. Raises BadFds for anything else, OSError when the
    socket breaks.
    """
    data, ancillary, flags, _address = await sock.recvmsg(
        1, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _FD_BYTES])
    try:
        return _checked(fds, truncated=bool(flags & socket.MSG_CTRUNC), silent=not data)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _checked(fds: Sequence[int], *, truncated: bool, silent: bool) -> PassedFds | None:
    if silent and not fds:
        return None
    if truncated:
        raise BadFds("the system had to drop passed fds (limit on open files?)")
    if len(fds) != 2:
        raise BadFds(f"{len(fds)} fds came in place of 2")
    read_fd, write_fd = fds
    check_usable(read_fd, "stdin")
    check_usable(write_fd, "stdout")
    return read_fd, write_fd


def check_usable(fd: int, what: str) -> None:
    """BadFds unless the fd is a byte stream that can be waited for."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode):
        return
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.type != socket.SOCK_STREAM:
                raise BadFds(f"{what} is a socket of type {sock.type}, not a stream")
        return
    # A character device may be anything (/dev/null, /dev/mem); only terminals can be waited for.
    if stat.S_ISCHR(mode) and os.isatty(fd):
        return
    raise BadFds(f"{what} is not a pipe, socket or terminal")
