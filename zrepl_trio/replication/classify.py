"""What to do about an error: try again on this link, mend the link first, or give up. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from zrepl_trio.errors import (
    BadResumeToken,
    DatasetBusy,
    DatasetNotFound,
    HandshakeFailed,
    ReceiveInterrupted,
    Refused,
    RemoteError,
    SourceFailed,
    TransportError,
    ZfsError,
    ZreplError,
)
from zrepl_trio.zfs.failures import GONE_SINCE

__all__ = ["ErrorClass", "classify", "main_error", "says_modified", "spoils_token"]


class ErrorClass(Enum):
    """The reaction to an error."""

    RETRY = "retry"
    RECONNECT = "reconnect"
    PERMANENT = "permanent"


def classify(error: ZreplError) -> ErrorClass:
    """The reaction to `error`.

    A peer that answers the handshake wrongly will do so again, unlike one that is silent. An
    interrupted receive goes on where it stopped; what was planned of a snapshot that somebody has destroyed
    since, such as another job's pruning, is planned without it. All that is unknown is permanent for this run;
    the job's next run tries it again.
    """
    match error:
        case HandshakeFailed():
            return ErrorClass.PERMANENT
        case TransportError():
            return ErrorClass.RECONNECT
        case ReceiveInterrupted() | SourceFailed() | DatasetBusy() | BadResumeToken():
            return ErrorClass.RETRY
        case ZfsError(status=int(status)) if status < 0:
            # killed by a signal: the out-of-memory killer's or a person's, not zfs's judgement
            return ErrorClass.RETRY
        case Refused() | DatasetNotFound() | RemoteError() if GONE_SINCE in str(error):
            return ErrorClass.RETRY
        case _:
            return ErrorClass.PERMANENT


def spoils_token(error: ZreplError, *, moved: int) -> bool:
    """Whether the error, of a step that resumes and has moved so many bytes, says that its token is of
    no use, so that a fresh step is.

    Over the wire, and from a stream that failed, only the text is left. A receiver may find that a stream
    does not set in where it stopped when much of it has come; zfs has odd words for that, too.
    """
    text = str(error).lower()
    if "cannot receive resume stream" in text:
        return "kernel modules must be upgraded" in text or "invalid" in text
    if moved:
        return False
    if isinstance(error, SourceFailed | RemoteError) and "cannot resume send" in text:
        return True
    return isinstance(error, BadResumeToken) or (
        isinstance(error, RemoteError) and "resume token" in text
    )


def says_modified(error: ZreplError) -> bool:
    """Whether zfs would not take an increment since the replica was modified; its own words, over the
    wire too."""
    return re.search(r"has been modified\s+since most recent snapshot", str(error)) is not None


def main_error(errors: Iterable[ZreplError]) -> ZreplError:
    """Of errors that came together the one to act on: the link's, else the first."""
    every = list(errors)
    return next((e for e in every if classify(e) is ErrorClass.RECONNECT), every[0])
