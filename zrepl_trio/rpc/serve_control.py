"""The serving side of a control connection: gRPC calls, each handed to an `Endpoint`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
import trio

from zrepl_trio.endpoint.protocol import (
    Endpoint,
    MeasuresDestroys,
    NotSupported,
    Places,
    Resolves,
    TellsMarks,
)
from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError, TransportError, ZreplError
from zrepl_trio.rpc import extensions, filesystems, listings, messages
from zrepl_trio.rpc.background import open_background
from zrepl_trio.rpc.elements import InvalidContent
from zrepl_trio.rpc.grpc import MAX_MESSAGE_BYTES, Status
from zrepl_trio.rpc.grpc_server import Call, CallCancelled, GrpcServer
from zrepl_trio.rpc.h2conn import MAX_STREAMS
from zrepl_trio.rpc.link import Link
from zrepl_trio.rpc.serve_data import log_failure, settle_at_the_end
from zrepl_trio.transport.base import Connection

__all__ = ["MAX_HANDLERS", "METHODS", "serve_control"]

MAX_HANDLERS = 2 * MAX_STREAMS
"""How many calls of one client may be under way here, those included that it has cancelled and that
still end their commands: HTTP/2's own limit does not count them."""

_GOODBYE = "server is closing the connection"


async def serve_control(
    connection: Connection,
    endpoint: Endpoint,
    log: structlog.typing.FilteringBoundLogger,
    *,
    settles: bool = False,
) -> None:
    """Serve calls until the client leaves; calls that still run then are cancelled. For a client that
    never `settles`, nothing is put off; for one that can't any more, it is done at the end.

    A handler's error is told to the peer and logged here. Raises TransportError when the link
    failed with calls open and RemoteProtocolError when the peer broke the protocol.
    """
    machine = GrpcServer(trio.current_time())
    link = Link[Call | CallCancelled](connection, machine)
    scopes: dict[int, trio.CancelScope] = {}
    async with open_background() as nursery:

        def handle(event: Call | CallCancelled) -> None:
            match event:
                case Call():
                    if len(scopes) >= MAX_HANDLERS:
                        raise RemoteProtocolError(
                            "peer makes and cancels calls faster than they can end"
                        )
                    scopes[event.stream_id] = trio.CancelScope()
                    nursery.start_soon(serve, event, scopes[event.stream_id])
                case CallCancelled():
                    scopes[event.stream_id].cancel()

        async def serve(call: Call, scope: trio.CancelScope) -> None:
            with scope:
                await _Serving(machine, link, endpoint, log, settles=settles).serve(call)
            del scopes[call.stream_id]
            link.wake()

        try:
            await link.run(handle, goodbye=_GOODBYE)
        finally:
            await settle_at_the_end(endpoint, log)  # noqa: ASYNC102 - it shields itself
        if machine.busy():
            raise TransportError("the client left with calls open")


class _Serving:
    def __init__(
        self,
        machine: GrpcServer,
        link: Link[Call | CallCancelled],
        endpoint: Endpoint,
        log: structlog.typing.FilteringBoundLogger,
        *,
        settles: bool,
    ) -> None:
        self._methods = METHODS if settles else AT_ONCE_METHODS
        self._machine = machine
        self._link = link
        self._endpoint = endpoint
        self._log = log

    async def serve(self, call: Call) -> None:
        """Answer one call."""
        name = call.path.removeprefix("/Replication/")
        method = self._methods.get(name)
        if method is None or name == call.path:
            self._machine.fail(
                call.stream_id, Status.UNIMPLEMENTED, f"unknown method {call.path[:80]}"
            )
            return
        log = self._log.bind(request=name)
        try:
            with trio.move_on_after(call.timeout_s if call.timeout_s is not None else math.inf):
                answer = await method(self._endpoint, call.message)
                self._machine.respond(call.stream_id, answer)
                return
            self._machine.fail(call.stream_id, Status.DEADLINE_EXCEEDED, "out of time")
        except RemoteProtocolError as error:
            unparsable = not isinstance(error, InvalidContent)
            status = Status.INTERNAL if unparsable else Status.INVALID_ARGUMENT
            self._machine.fail(call.stream_id, status, str(error))
            self._link.end_after_flush(type(error)(f"{name}: {error}"))
        except ZreplError as error:
            log.warning("request failed", error=str(error))
            self._machine.fail(call.stream_id, Status.UNKNOWN, str(error))
        except Exception as error:  # noqa: BLE001 - the handler wrapper: one request, not the daemon
            self._machine.fail(call.stream_id, Status.UNKNOWN, log_failure(log, error))


async def _ping(endpoint: Endpoint, message: bytes) -> bytes:
    return messages.encode_ping_echo(await endpoint.ping(messages.decode_ping(message)))


async def _list_filesystems(endpoint: Endpoint, message: bytes) -> bytes:
    after = filesystems.decode_request(message)
    found = await endpoint.list_filesystems()
    if after is not None:
        return filesystems.encode_part(found, after)
    return _of_legal_size(filesystems.encode_all(found), f"{len(found)} filesystems")


async def _list_versions(endpoint: Endpoint, message: bytes) -> bytes:
    filesystem = messages.decode_filesystem(message)
    versions = await endpoint.list_versions(filesystem)
    what = f"{filesystem} with {len(versions)} snapshots and bookmarks"
    return _of_legal_size(messages.encode_versions(versions), what)


def _of_legal_size(answer: bytes, what: str) -> bytes:
    if len(answer) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError(
            f"{what}: the listing has {len(answer)} bytes, and gRPC takes {MAX_MESSAGE_BYTES}: prune, "
            "split it among jobs, or have zrepl-trio on both sides, which lists in parts"
        )
    return answer


async def _destroy_snapshots(endpoint: Endpoint, message: bytes) -> bytes:
    filesystem, snapshots = messages.decode_destroy(message)
    results = await endpoint.destroy_snapshots(filesystem, snapshots)
    return messages.encode_destroy_results(snapshots, results)


async def _destroy_size(endpoint: Endpoint, message: bytes) -> bytes:
    filesystem, snapshots = messages.decode_destroy(message)
    if not isinstance(endpoint, MeasuresDestroys):
        raise NotSupported("this side cannot tell what it would free")
    return extensions.encode_destroy_size(await endpoint.destroy_size(filesystem, snapshots) or 0)


async def _replication_cursor(endpoint: Endpoint, message: bytes) -> bytes:
    filesystem = messages.decode_filesystem(message)
    return messages.encode_cursor(await endpoint.replication_cursor(filesystem))


async def _send_dry(endpoint: Endpoint, message: bytes) -> bytes:
    request = messages.decode_send(message, dry=True)
    if request.between:
        sizes = await endpoint.range_sizes(request)
        total = None if None in sizes else sum(size or 0 for size in sizes)
        return messages.encode_send_result(
            used_resume_token=False, expected_size=total, sizes=sizes
        )
    return messages.encode_send_result(
        used_resume_token=request.resume_token is not None,
        expected_size=await endpoint.send_dry(request),
    )


async def _send_completed(endpoint: Endpoint, message: bytes) -> bytes:
    await endpoint.send_completed(messages.decode_send_completed(message))
    return messages.encode_empty()


async def _send_completed_at_once(endpoint: Endpoint, message: bytes) -> bytes:
    """For a peer that never settles: it is told when something of it fails."""
    request = messages.decode_send_completed(message)
    await endpoint.send_completed(replace(request, at_once=True))
    return messages.encode_empty()


async def _settle(endpoint: Endpoint, message: bytes) -> bytes:
    messages.decode_empty(message)
    await endpoint.settle()
    return messages.encode_empty()


async def _resolve(endpoint: Endpoint, message: bytes) -> bytes:
    request = extensions.decode_resolve(message)
    if not isinstance(endpoint, Resolves):
        raise NotSupported("this side receives nothing, so it has no replica to make fit")
    return extensions.encode_resolved(await endpoint.resolve(request))


async def _places(endpoint: Endpoint, message: bytes) -> bytes:
    filesystems = extensions.decode_places_request(message)
    if not isinstance(endpoint, Places):
        raise NotSupported("this side receives nothing, so it has no place for anything")
    places = await endpoint.places_of(filesystems)
    return extensions.encode_places([places[each] for each in filesystems])


async def _marks(endpoint: Endpoint, message: bytes) -> bytes:
    filesystems = extensions.decode_marks_request(message)
    if not isinstance(endpoint, TellsMarks):
        raise NotSupported("this side cannot tell what it holds")
    marks = await endpoint.marks_of(filesystems)
    return extensions.encode_marks([marks[each] for each in filesystems])


async def _list_versions_of(endpoint: Endpoint, message: bytes) -> bytes:
    filesystems, after = listings.decode_request(message)
    answer = listings.Answer(after=after)
    for filesystem in filesystems:
        try:
            versions = await endpoint.list_versions(filesystem)
        except TransportError:
            raise
        except ZreplError as error:
            if not answer.fail(str(error)):
                break
            continue
        if not answer.add(versions):
            break
    return answer.encoded()


METHODS: dict[str, Callable[[Endpoint, bytes], Awaitable[bytes]]] = {
    "Ping": _ping,
    "ListFilesystems": _list_filesystems,
    "ListFilesystemVersions": _list_versions,
    "DestroySnapshots": _destroy_snapshots,
    "ReplicationCursor": _replication_cursor,
    "SendDry": _send_dry,
    "SendCompleted": _send_completed,
    "Resolve": _resolve,
    "ListVersions": _list_versions_of,
    "Settle": _settle,
    "DestroySize": _destroy_size,
    "Places": _places,
    "Marks": _marks,
}
"""The calls of service `Replication`, by name; those from `Resolve` on are ours."""

AT_ONCE_METHODS = METHODS | {"SendCompleted": _send_completed_at_once}
