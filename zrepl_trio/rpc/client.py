"""The other side of a replication at the far end of a wire, as an `Endpoint`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from zrepl_trio.endpoint.model import Marks, SnapshotTimes
from zrepl_trio.endpoint.protocol import (
    Filesystem,
    NotSupported,
    ReceiveRequest,
    ResolveRequest,
    SendReply,
    SendRequest,
    StreamSource,
)
from zrepl_trio.errors import (
    Refused,
    RemoteError,
    RemoteProtocolError,
    SourceFailed,
    TransportError,
    ZreplError,
)
from zrepl_trio.rpc import extensions, filesystems, listings, messages
from zrepl_trio.rpc.background import open_background
from zrepl_trio.rpc.control import CONNECT_LIMIT_S, ControlClient
from zrepl_trio.rpc.dataconn import DataConn, open_dataconn
from zrepl_trio.rpc.greeting import greet_server
from zrepl_trio.rpc.handshake import LISTINGS, PLACES, RANGES, SETTLES
from zrepl_trio.rpc.heartbeat import WORK_LIMIT_S, work_limit
from zrepl_trio.rpc.label import Label
from zrepl_trio.rpc.machine import PING, RECV, SEND, Role
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.rpc.streams import InboundStream, send_stream
from zrepl_trio.transport.base import Connecter
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["RemoteEndpoint", "open_remote"]


@asynccontextmanager
async def open_remote(
    connecter: Connecter,
    *,
    connect_limit_s: float = CONNECT_LIMIT_S,
    work_limit_s: float = WORK_LIMIT_S,
    shutdowns: ShutdownTotals | None = None,
) -> AsyncIterator[RemoteEndpoint]:
    """The endpoint that `connecter` leads to.

    Nothing is dialled before the first call. The control connection lives until the block
    ends, or until it fails: then the next call dials again. Each ping, send and receive of
    data has a connection of its own, whose end `shutdowns` counts. `connect_limit_s` is for the whole of making the control
    connection, dialling and greeting. A zrepl that lives but does nothing of what it was asked for is
    waited for during `work_limit_s`. All errors are ZreplErrors, and come bare, not in groups.
    """
    control = ControlClient(connecter, connect_limit_s=connect_limit_s, work_limit_s=work_limit_s)
    async with open_background() as nursery:
        nursery.start_soon(control.run)
        yield RemoteEndpoint(connecter, control, work_limit_s, shutdowns)


class RemoteEndpoint:
    """An `Endpoint` by remote calls; made by `open_remote`.

    The peer's handler errors are RemoteError with its text, or PeerStuck; the link's are TransportError
    (ConnectFailed, HandshakeFailed, PeerTimeout); an answer that makes no sense, or names what
    is no legal name, is RemoteProtocolError.
    """

    def __init__(
        self,
        connecter: Connecter,
        control: ControlClient,
        work_limit_s: float,
        shutdowns: ShutdownTotals | None,
    ) -> None:
        self._connecter = connecter
        self._control = control
        self._work_limit_s = work_limit_s
        self._shutdowns = shutdowns

    async def ping(self, message: str) -> str:
        """The same message, by the control connection."""
        return messages.decode_ping_echo(
            await self._control.call("Ping", messages.encode_ping(message))
        )

    async def ping_data(self, message: str) -> str:
        """The same message, by a data connection of its own."""
        async with self._open_data() as data:
            await data.send_request(PING, messages.encode_ping(message))
            return messages.decode_ping_echo(await data.receive_answer())

    async def list_filesystems(self) -> list[Filesystem]:
        """See Endpoint."""
        found: list[Filesystem] = []
        after: DatasetPath | None = None
        while True:
            request = filesystems.encode_request(after)
            answer = await self._control.call("ListFilesystems", request)
            part = filesystems.decode_filesystems(answer)
            found += part.filesystems
            if not part.more:
                return found
            last = found[-1].path
            behind = after is None or last.components > after.components
            if not behind or len(found) > filesystems.MOST_FILESYSTEMS:
                raise RemoteProtocolError("the parts of the listing of filesystems have no end")
            after = last

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        """See Endpoint."""
        request = messages.encode_filesystem(filesystem)
        try:
            answer = await self._control.call("ListFilesystemVersions", request)
            return messages.decode_versions(answer)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{filesystem} cannot be listed: {error}") from error

    async def send_dry(self, request: SendRequest) -> int | None:
        """See Endpoint."""
        answer = await self._control.call("SendDry", messages.encode_send(request))
        return messages.decode_send_result(answer)[1]

    @property
    def lists_in_bulk(self) -> bool:
        """See ListsInBulk."""
        return LISTINGS in self._control.extensions

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion] | ZreplError]:
        """See ListsInBulk. Asked by parts: what the peer has of one may not fit into one message."""
        found: dict[DatasetPath, list[FilesystemVersion] | ZreplError] = {}
        left = list(filesystems)
        so_far: list[FilesystemVersion] = []
        while left:
            asked = left[: listings.ASKED_AT_ONCE]
            after = so_far[-1].createtxg if so_far else 0
            request = listings.encode_request(asked, after=after)
            answer = await self._control.call("ListVersions", request)
            came = listings.decode_listed(answer, asked=len(asked))
            for path, listed in zip(asked, came, strict=False):
                so_far += listed.versions
                if listed.more:
                    if so_far[-1].createtxg <= after or len(so_far) > listings.MOST_VERSIONS:
                        raise RemoteProtocolError(f"{path}: the parts of its listing have no end")
                    break
                found[path] = RemoteError(listed.error) if listed.error else so_far
                so_far = []
            left = [path for path in left if path not in found]
        return found

    @property
    def tells_places(self) -> bool:
        """See Places."""
        return PLACES in self._control.extensions

    async def places_of(
        self, filesystems: Mapping[DatasetPath, SnapshotTimes]
    ) -> dict[DatasetPath, DatasetPath | Refused]:
        """See Places."""
        found: dict[DatasetPath, DatasetPath | Refused] = {}
        wanted = list(filesystems.items())
        for start in range(0, len(wanted), extensions.PLACES_AT_ONCE):
            asked = wanted[start : start + extensions.PLACES_AT_ONCE]
            request = extensions.encode_places_request(asked)
            answer = await self._control.call("Places", request)
            came = extensions.decode_places(answer, asked=len(asked))
            found.update(zip([path for path, _ in asked], came, strict=True))
        return found

    async def marks_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, Marks | ZreplError]:
        """See TellsMarks."""
        found: dict[DatasetPath, Marks | ZreplError] = {}
        wanted = list(filesystems)
        for start in range(0, len(wanted), extensions.MARKS_AT_ONCE):
            asked = wanted[start : start + extensions.MARKS_AT_ONCE]
            try:
                answer = await self._control.call("Marks", extensions.encode_marks_request(asked))
            except RemoteError as error:
                if _lacks(error, "Marks"):
                    return {}
                raise
            found.update(zip(asked, extensions.decode_marks(answer, asked=asked), strict=True))
        return found

    @property
    def moves_ranges(self) -> bool:
        """See Endpoint."""
        return RANGES in self._control.extensions

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        """See Endpoint."""
        answer = await self._control.call("SendDry", messages.encode_send(request))
        return messages.decode_range_sizes(answer, request)

    async def send_completed(self, request: SendRequest) -> None:
        """See Endpoint."""
        encoded = messages.encode_send_completed(request)
        messages.decode_empty(await self._control.call("SendCompleted", encoded))

    async def settle(self) -> None:
        """See Endpoint; a peer that is a zrepl puts nothing off, and one that has lost the connection
        does it by itself."""
        if SETTLES in self._control.extensions and self._control.connected:
            messages.decode_empty(await self._control.call("Settle", messages.encode_empty()))

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        """See Endpoint."""
        request = messages.encode_filesystem(filesystem)
        return messages.decode_cursor(await self._control.call("ReplicationCursor", request))

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        """See Endpoint."""
        request = messages.encode_destroy(filesystem, snapshots)
        answer = await self._control.call("DestroySnapshots", request)
        return messages.decode_destroy_results(answer, snapshots)

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int | None:
        """See MeasuresDestroys; None from a peer that is a zrepl."""
        request = messages.encode_destroy(filesystem, snapshots)
        try:
            answer = await self._control.call("DestroySize", request)
        except RemoteError as error:
            if _lacks(error, "DestroySize"):
                return None
            raise
        return extensions.decode_destroy_size(answer)

    async def resolve(self, request: ResolveRequest) -> str:
        """See Resolves; NotSupported by a peer that is a zrepl."""
        try:
            answer = await self._control.call("Resolve", extensions.encode_resolve(request))
        except RemoteError as error:
            if _lacks(error, "Resolve"):
                raise NotSupported(
                    f"{request.filesystem}: the receiver is a zrepl, which cannot be asked to "
                    f"{request.way.value} a replica: do it there"
                ) from error
            raise
        return extensions.decode_resolved(answer)

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        """See Endpoint. The stream has no `reader`: it is moved by `copy_into`."""
        return self._send(request)

    @asynccontextmanager
    async def _send(self, request: SendRequest) -> AsyncIterator[SendReply]:
        async with self._open_data(ranges=bool(request.between)) as data:
            await data.send_request(SEND, messages.encode_send(request))
            answer = messages.decode_send_result(await data.receive_answer())
            used_resume_token, expected_size = answer
            yield SendReply(
                used_resume_token=used_resume_token,
                expected_size=expected_size,
                stream=InboundStream(data),
            )

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        """See Endpoint. The peer may answer before it has taken all of the stream."""
        async with self._open_data(ranges=bool(request.between)) as data:
            await data.send_request(RECV, messages.encode_receive(request))
            sending_error = await self._send_until_answered(data, stream)
            if sending_error is not None:
                raise sending_error

    async def _send_until_answered(self, data: DataConn, stream: StreamSource) -> ZreplError | None:
        sending_error: ZreplError | None = None
        async with open_background() as nursery:
            no_answer = trio.CancelScope()

            async def send() -> None:
                nonlocal sending_error
                try:
                    await send_stream(data, stream)
                except SourceFailed as error:
                    # told to the peer; as zrepl does, its answer is not waited for
                    sending_error = error
                    no_answer.cancel()
                except TransportError as error:
                    # the peer may have said why before it closed: its answer comes first
                    sending_error = error

            nursery.start_soon(send)
            with no_answer:
                try:
                    messages.decode_empty(await data.receive_answer())
                except (TransportError, RemoteProtocolError):
                    if sending_error is None:
                        raise
                else:
                    sending_error = None
        return sending_error

    @asynccontextmanager
    async def _open_data(self, *, ranges: bool = False) -> AsyncIterator[DataConn]:
        async with self._connecter.connect() as connection:
            extensions = await greet_server(connection, Label.DATA)
            if ranges and RANGES not in extensions:
                # it would take the range for one step, and leave out what is between
                raise TransportError("the peer was replaced by one that moves no ranges")
            opened = open_dataconn(
                connection,
                Role.CLIENT,
                work_limit_s=work_limit(extensions, self._work_limit_s),
                shutdowns=self._shutdowns,
            )
            async with opened as data:
                yield data


def _lacks(error: RemoteError, call: str) -> bool:
    """Whether the peer answered that it has no such call (`rpc.control` says so): a zrepl, for one of ours."""
    return f"does not know {call}" in str(error)
