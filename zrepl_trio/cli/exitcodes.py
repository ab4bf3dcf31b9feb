"""Exit statuses of `zrepl-trio`, the same for all commands (`stdinserver` has zrepl's own two)."""

from __future__ import annotations

from enum import IntEnum

from zrepl_trio.control.faults import DaemonUnreachable
from zrepl_trio.control.socket import DaemonRunning
from zrepl_trio.errors import ConfigErrors, ConnectFailed, HandshakeFailed, UsageRefused, ZreplError
from zrepl_trio.jobs.base import Outcome
from zrepl_trio.jobs.lock import JobLocked

__all__ = ["OUTCOME_CODES", "ExitCode", "UsageRefused", "exit_code"]


class ExitCode(IntEnum):
    """What the shell gets."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_CONNECTED = 3
    CONFIG = 4
    ALREADY_RUNNING = 5
    INTERRUPTED = 130


OUTCOME_CODES = {
    Outcome.DONE: ExitCode.DONE,
    Outcome.FILESYSTEM_ERRORS: ExitCode.FAILED,
    Outcome.CONNECT_FAILED: ExitCode.NOT_CONNECTED,
    Outcome.FAILED: ExitCode.FAILED,
    Outcome.CANCELLED: ExitCode.FAILED,
}


def exit_code(error: ZreplError) -> ExitCode:
    """The status that tells this error."""
    match error:
        case UsageRefused():
            return ExitCode.USAGE
        case ConfigErrors():
            return ExitCode.CONFIG
        case JobLocked() | DaemonRunning():
            return ExitCode.ALREADY_RUNNING
        case DaemonUnreachable() | ConnectFailed() | HandshakeFailed():
            return ExitCode.NOT_CONNECTED
        case _:
            return ExitCode.FAILED
