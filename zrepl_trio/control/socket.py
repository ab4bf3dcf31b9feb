"""The control socket's file: one daemon has it, for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import trio

from zrepl_trio.errors import Refused
from zrepl_trio.jobs.lock import FileHeld, held_file, holder_text
from zrepl_trio.transport.unixsocket import listening

__all__ = ["DaemonRunning", "open_control_listener"]


class DaemonRunning(Refused):
    """Another daemon has this control socket."""


@asynccontextmanager
async def open_control_listener(path: str) -> AsyncIterator[trio.SocketListener]:
    """A listener on the control socket `path`, mode 0600; the file goes with the block.

    The directory exists and is private. DaemonRunning when another daemon has it; Refused when
    another program answers there (zrepl's daemon, say) or the path cannot be used.
    """
    with ExitStack() as stack:
        try:
            # Of two daemons started at once, both may find a stale socket: the lock decides.
            stack.enter_context(held_file(f"{path}.lock"))
        except FileHeld as held:
            raise DaemonRunning(
                f"another daemon ({holder_text(held.pid)}) has the control socket {path}; "
                "stop it first"
            ) from None
        except OSError as error:
            raise Refused(f"cannot lock the control socket {path}: {error.strerror}") from error
        yield trio.SocketListener(stack.enter_context(listening(path, backlog=64)))
