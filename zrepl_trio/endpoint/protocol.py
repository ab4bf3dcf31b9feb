"""`Endpoint`: one side of a replication, here in this process or at the other end of a wire.

`endpoint.sender.Sender` and `endpoint.receiver.Receiver` do the work on a `Zfs`;
`rpc.client.RemoteEndpoint` asks a peer; `rpc.server` serves one. The methods are zrepl's RPCs
(protocol version 7). Paths are always the sender's dataset names. A side that does not play
a role raises RemoteError-like text of zrepl ("receiver does not implement Send()") as
`NotSupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeGuard, runtime_checkable

import trio

from zrepl_trio.endpoint.model import (
    Filesystem,
    GuaranteeKind,
    Marks,
    Protection,
    ReceiveRequest,
    ResolveRequest,
    SendRequest,
    SnapshotTimes,
)
from zrepl_trio.errors import Refused, ZreplError
from zrepl_trio.pace import Pace
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "Endpoint",
    "Filesystem",
    "GuaranteeKind",
    "ListsInBulk",
    "MeasuresDestroys",
    "NotSupported",
    "PingsData",
    "Places",
    "Protection",
    "ReceiveRequest",
    "ResolveRequest",
    "Resolves",
    "SendReply",
    "SendRequest",
    "ShowsHead",
    "StreamSource",
    "TellsMarks",
    "lists_in_bulk",
]


class NotSupported(ZreplError):
    """This side does not play that role."""


class StreamSource(Protocol):
    """The bytes of one send stream, whose end can be told from a failure.

    `on_progress` is called with the size of each piece as it moves, by `copy_into` or by
    whoever drains `reader`; the one who wants to know sets it before the stream is moved. They move
    the bytes at its `pace`, to which a sender or receiver with a limit has it `keep_to`.
    """

    on_progress: Callable[[int], None]
    pace: Pace

    @property
    def reader(self) -> trio.abc.ReceiveStream | None:
        """The plain bytes, where there is a pipe of them (a local `zfs send`); else None."""

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        """Move all of it into `sink` (spliced where both have an fd), without closing it.

        Gives the count of bytes moved. Raises SourceFailed when the sender failed,
        TransportError when the link did, and the sink's own trio error when the sink broke.
        """

    async def finish(self) -> None:
        """For a `reader` read to EOF by somebody else: SourceFailed if the sender failed."""


@runtime_checkable
class ShowsHead(Protocol):
    """A stream whose first bytes can be looked at before it is moved."""

    async def head(self, count: int) -> bytes:
        """Its first `count` bytes, fewer if it is shorter; they are still to be moved. SourceFailed when
        the sender failed, TransportError when the link did."""


@valueclass(frozen=True, slots=True, kw_only=True)
class SendReply:
    """Answer to a send: `expected_size` in bytes, `raw` as in a ReceiveRequest, None = unknown;
    `stream` is live."""

    used_resume_token: bool
    stream: StreamSource
    expected_size: int | None = None
    raw: bool | None = None


class Endpoint(Protocol):
    """All that the other side may ask. Errors are ZreplErrors; a text crosses the wire."""

    @property
    def moves_ranges(self) -> bool:
        """Whether it knows ranges; of a peer that is known once it has answered a call."""

    async def ping(self, message: str) -> str:
        """The same message."""

    async def list_filesystems(self) -> list[Filesystem]:
        """What this side has and shows, parents first."""

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        """Its snapshots and bookmarks; an error when it does not exist."""

    async def send_dry(self, request: SendRequest) -> int | None:
        """Bytes the step would send, None = unknown (Sender only)."""

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        """Bytes that each snapshot of the range would take, None = unknown (Sender only)."""

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        """Protect the versions, start the stream (Sender only). Leaving the block ends it."""

    async def send_completed(self, request: SendRequest) -> None:
        """The receiver has confirmed that step: move the cursor, drop step holds."""

    async def settle(self) -> None:
        """Do what was put off: holds to move or to drop, for many filesystems at once. To be called at
        the end of a run, and now and then in one."""

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        """Take the stream to its end, verify, hold (Receiver only)."""

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        """Guid of the newest cursor bookmark, None when there is none (Sender only)."""

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        """One result a snapshot, in order."""


@runtime_checkable
class PingsData(Protocol):
    """A side that is reached by two kinds of connection, of which either may fail alone."""

    async def ping_data(self, message: str) -> str:
        """The same message, by the way that streams take."""


@runtime_checkable
class Resolves(Protocol):
    """A receiver that can make a replica fit again which no longer fits the sender's."""

    async def resolve(self, request: ResolveRequest) -> str:
        """Do it; what was done, for the log. Refused when the replica has changed since, or a
        hold is in the way."""


@runtime_checkable
class MeasuresDestroys(Protocol):
    """A side that can tell what it would free to destroy snapshots."""

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int | None:
        """Bytes, were all of them destroyed; changes nothing. None from a peer that cannot tell."""


@runtime_checkable
class TellsMarks(Protocol):
    """A side that can tell what it holds."""

    async def marks_of(
        self, filesystems: Collection[DatasetPath]
    ) -> Mapping[DatasetPath, Marks | ZreplError]:
        """The job's own holds on each, with the versions that they are on at least, or why they cannot be
        told; nothing is changed. Empty from a peer that is a zrepl."""


@runtime_checkable
class ListsInBulk(Protocol):
    """A side that may list the versions of many filesystems at the price of a few."""

    @property
    def lists_in_bulk(self) -> bool:
        """Whether it does; of a peer that is known once it has answered a call."""

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> Mapping[DatasetPath, list[FilesystemVersion] | ZreplError]:
        """The versions of each, or why there are none. One that does not exist may be absent; one
        without any is empty."""


_LISTS_IN_BULK: dict[type, bool] = {}


def lists_in_bulk(endpoint: Endpoint) -> TypeGuard[ListsInBulk]:
    """Whether that kind of endpoint may. Python looks for each member of a protocol anew each time; a class keeps
    them."""
    kind = type(endpoint)
    found = _LISTS_IN_BULK.get(kind)
    if found is None:
        found = _LISTS_IN_BULK[kind] = isinstance(endpoint, ListsInBulk)
    return found


@runtime_checkable
class Places(Protocol):
    """A receiver that may tell where it puts things."""

    @property
    def tells_places(self) -> bool:
        """Whether it does; of a peer that is known once it has answered a call."""

    async def places_of(
        self, filesystems: Mapping[DatasetPath, SnapshotTimes]
    ) -> Mapping[DatasetPath, DatasetPath | Refused]:
        """The receiver's own path of each of the sender's filesystems, or why it can have none. With
        each comes what the sender knows of its snapshots, for a receiver that keeps account."""
