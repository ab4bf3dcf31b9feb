"""Listening on a UNIX socket path: a dead one is replaced, a live one respected.

The path's directory must be private already (see `privatedir`), so nobody else races us here.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio

from zrepl_trio.errors import Refused

__all__ = ["listening"]

_MAX_PATH_BYTES = 107
"""`sun_path` of unix(7) less its NUL."""


@contextmanager
def listening(path: str, *, backlog: int = 128) -> Iterator[trio.socket.SocketType]:
    """A listening socket at `path`, mode 0600; closed, and its file removed if still ours, at the
    end of the block. Raises Refused when the path is taken by a live process or by another kind
    of file, is too long, or can't be made."""
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        try:
            raw.bind(path)
        except OSError as error:
            raise Refused(f"can't listen on {path}: {error.strerror or error}") from error
        info = os.lstat(path)
        try:
            os.chmod(path, 0o600)
            raw.listen(backlog)
            with trio.socket.from_stdlib_socket(raw) as sock:
                yield sock
        finally:
            with suppress(OSError):
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (info.st_dev, info.st_ino):
                    os.unlink(path)


def _clear(path: str) -> None:
    """Remove a stale socket; Refused for anything that isn't one."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise Refused(
            f"{path} is longer than the {_MAX_PATH_BYTES} bytes that a socket's path may have; "
            "use a shorter directory or name"
        )
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refused(f"can't listen on {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(info.st_mode):
        raise Refused(f"{path} exists and is not a socket; move it away: mv {path} {path}.old")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    # EAGAIN: somebody listens, with a full queue
    if result in {0, errno.EAGAIN, errno.EINPROGRESS}:
        raise Refused(f"{path} is served by another running process; stop that one first")
    if result != errno.ECONNREFUSED:
        raise Refused(f"can't tell whether {path} is in use: {os.strerror(result)}")
    os.unlink(path)
