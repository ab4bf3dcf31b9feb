"""Exit statuses of `zrepl-trio`, the same for all commands (`stdinserver` has zrepl's own two)."""

from __future__ import annotations

from enum import IntEnum

from zrepl_trio.control.client import DaemonUnreachable
from zrepl_trio.control.socket import DaemonRunning
from zrepl_trio.errors import ConfigErrors, ConnectFailed, HandshakeFailed, ZreplError
from zrepl_trio.jobs.lock import JobLocked

__all__ = ["EPILOG", "ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """What the shell gets."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_CONNECTED = 3
    CONFIG = 4
    ALREADY_RUNNING = 5
    INTERRUPTED = 130


EPILOG = (
    "Exit status: 0 all done · 1 some filesystem or other work failed · 2 wrong usage · "
    "3 could not connect (to the peer, or to the daemon) · 4 config · 5 already running."
)


def exit_code(error: ZreplError) -> ExitCode:
    """The status that tells this error."""
    match error:
        case ConfigErrors():
            return ExitCode.CONFIG
        case JobLocked() | DaemonRunning():
            return ExitCode.ALREADY_RUNNING
        case DaemonUnreachable() | ConnectFailed() | HandshakeFailed():
            return ExitCode.NOT_CONNECTED
        case _:
            return ExitCode.FAILED
