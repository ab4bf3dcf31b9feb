"""Every exception of zrepl-trio, split by what the one who catches it can do.

ZreplError
├── ConfigErrors            the admin mends the file; carries every problem found
├── Refused                 we will not start or act; the text says why and what to do
│   └── UsageRefused        the command line asks for what cannot be, or what the config does not have
├── PolicyBreach            what zfs made is not what the config or the stream demands
├── ZfsError                a zfs/zpool command failed
│   ├── DatasetNotFound
│   ├── DatasetExists
│   ├── DatasetBusy         held, cloned, or being received into
│   ├── ReceiveInterrupted  partial state was kept; carries the resume token
│   ├── ReceiveRefused      the target diverged, exists, or was modified
│   ├── NoSpace             pool or quota full
│   ├── BadResumeToken
│   └── DatasetBlocked      a child that ignores SIGKILL still holds this dataset
├── SourceFailed            the sending side says its stream is incomplete
├── TransportError          the link; another attempt may succeed
│   ├── ConnectFailed
│   ├── HandshakeFailed     the peer answers, but not as it should
│   └── PeerTimeout         silence past a limit
├── ProtocolError
│   ├── LocalProtocolError  a bug of ours
│   └── RemoteProtocolError the peer broke the protocol; the connection ends
└── RemoteError             text of the peer's handler, shown as it is
    └── PeerStuck           it lives, but its work does not go on
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

__all__ = [
    "BadResumeToken",
    "ConfigErrors",
    "ConnectFailed",
    "DatasetBlocked",
    "DatasetBusy",
    "DatasetExists",
    "DatasetNotFound",
    "HandshakeFailed",
    "LocalProtocolError",
    "NoSpace",
    "PeerStuck",
    "PeerTimeout",
    "PolicyBreach",
    "Problem",
    "ProtocolError",
    "ReceiveInterrupted",
    "ReceiveRefused",
    "Refused",
    "RemoteError",
    "RemoteProtocolError",
    "SourceFailed",
    "TransportError",
    "UsageRefused",
    "ZfsError",
    "ZreplError",
    "leaves",
    "with_notes",
]

_E = TypeVar("_E", bound=BaseException)


class ZreplError(Exception):
    """Base of all errors that a user can cause or see; its text is one clear statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a config file; lines and columns count from 1, 0 = unknown."""

    file: str
    line: int
    column: int
    key: str
    message: str
    accepted: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        key = f"{self.key}: " if self.key else ""
        accepted = f" (accepted: {self.accepted})" if self.accepted else ""
        return f"{place}{key}{self.message}{accepted}"


class ConfigErrors(ZreplError):
    """The config cannot be used; `problems` holds every fault found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Refused(ZreplError):
    """We refuse to start or to act; the text names the object, the cause and the mend."""


class UsageRefused(Refused):
    """The command line asks for what cannot be, or for what the config does not have."""


class PolicyBreach(ZreplError):
    """A dataset's property, read back, is not what the config or the stream demands; the text names
    both, the dataset and the next action."""


class ZfsError(ZreplError):
    """A zfs or zpool command failed.

    `argv` and `status` are what ran and how it ended (negative: killed by that signal),
    `stderr` what it said, `dataset` the dataset it was about, if known.
    """

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str] = (),
        status: int | None = None,
        stderr: str = "",
        dataset: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr
        self.dataset = dataset

    def __str__(self) -> str:
        return self.message


class DatasetNotFound(ZfsError):
    """The dataset, snapshot or bookmark does not exist."""


class DatasetExists(ZfsError):
    """What was to be made exists already, and is not the same."""


class DatasetBusy(ZfsError):
    """Held, cloned, mounted and in use, or being received into."""


class ReceiveInterrupted(ZfsError):
    """`zfs recv -s` stopped early and kept its state; `token` resumes it."""

    def __init__(
        self,
        message: str,
        *,
        token: str,
        argv: Sequence[str] = (),
        status: int | None = None,
        stderr: str = "",
        dataset: str = "",
    ) -> None:
        super().__init__(message, argv=argv, status=status, stderr=stderr, dataset=dataset)
        self.token = token


class ReceiveRefused(ZfsError):
    """zfs will not receive onto this target: diverged, modified, or not the stream's base."""


class NoSpace(ZfsError):
    """Out of space or quota on the receiving side."""


class BadResumeToken(ZfsError):
    """The token is corrupt, or what it names no longer exists on the sender."""


class DatasetBlocked(ZfsError):
    """An earlier zfs child for this dataset ignores SIGKILL; nothing new is started on it."""


class SourceFailed(ZreplError):
    """The sending side reports that its `zfs send` failed, so the stream is incomplete."""


class TransportError(ZreplError):
    """The link to the peer failed."""


class ConnectFailed(TransportError):
    """No connection could be made; the text carries ssh's own words where there are any."""


class HandshakeFailed(TransportError):
    """The peer answered with something other than the handshake."""


class PeerTimeout(TransportError):
    """The peer was silent, or took nothing, for longer than the protocol allows."""


class ProtocolError(ZreplError):
    """The protocol was broken; see the two subclasses for by whom."""


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; its connection is closed."""


class RemoteError(ZreplError):
    """The peer's handler failed; the text is the peer's own."""


class PeerStuck(RemoteError):
    """The peer lives, but what it was asked for does not go on; a matter of one filesystem, like other
    errors of its handlers. The text is ours."""


@overload
def leaves(error: BaseExceptionGroup[_E]) -> Iterator[_E]: ...
@overload
def leaves(error: BaseException) -> Iterator[BaseException]: ...
def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, however deep; any other error is its own only leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def with_notes(error: BaseException | str) -> str:
    """The error's text, and what was noted on its way, a line each: ssh's last words, say.
    A plain text is given as it is."""
    return "\n".join((str(error), *getattr(error, "__notes__", ())))
