"""The control socket's file: ours alone, replaced when stale, refused when a daemon answers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from zrepl_trio.errors import Refused
from zrepl_trio.jobs.lock import FileHeld, held_file, holder_text

__all__ = ["DaemonRunning", "open_control_listener"]

BACKLOG = 64
MAX_PATH_BYTES = 107
"""Linux's sun_path less the NUL."""


class DaemonRunning(Refused):
    """Another daemon has this control socket."""


def _refuse_unless_stale(path: str) -> None:
    """Return when there is nothing at `path`, or a socket that nobody answers."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused(f"{path} is in the way of the control socket and is no socket; remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        # A daemon that is there has its connection queued at once: no wait can be needed.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise DaemonRunning(f"another daemon answers on {path}; stop it first")


def _bound_socket(path: str) -> socket.socket:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise Refused(
            f"control socket path {path} is longer than {MAX_PATH_BYTES} bytes, the system's limit; "
            "choose a shorter global.control.sockpath"
        )
    sock = socket.socket(socket.AF_UNIX)
    try:
        # The mode must be right from the first moment on; umask is the process's, but no other
        # task runs between these lines.
        old_umask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(old_umask)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise DaemonRunning(f"another daemon has just taken {path}") from error
        raise Refused(f"cannot listen on the control socket {path}: {error.strerror}") from error
    return sock


@asynccontextmanager
async def open_control_listener(path: str) -> AsyncIterator[trio.SocketListener]:
    """A listener on the control socket `path`, mode 0600; the file goes with the block.

    The directory exists and is private. DaemonRunning when a live daemon (of ours or zrepl's)
    has it; Refused, with the cause, when the path cannot be used.
    """
    try:
        with held_file(f"{path}.lock"):
            try:
                _refuse_unless_stale(path)
            except OSError as error:
                raise Refused(f"cannot use the control socket {path}: {error.strerror}") from error
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(_bound_socket(path)))
            try:
                yield listener
            finally:
                listener.socket.close()
                with suppress(FileNotFoundError):
                    os.unlink(path)
    except FileHeld as held:
        raise DaemonRunning(
            f"another daemon ({holder_text(held.pid)}) has the control socket {path}; stop it first"
        ) from None
