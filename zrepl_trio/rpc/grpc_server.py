"""The serving side of gRPC: unary calls over one HTTP/2 connection, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.errors
import h2.events
import h2.exceptions

from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc.grpc import (
    MAX_MESSAGE_BYTES,
    MessageTooLarge,
    Status,
    UnaryMessage,
    encode_status_text,
    frame_message,
    parse_timeout,
)
from zrepl_trio.rpc.h2conn import Body, GoAway, H2Machine, Headers
from zrepl_trio.rpc.keepalive import SERVER_IDLE_S

__all__ = ["MAX_HELD_BYTES", "Call", "CallCancelled", "GrpcServer"]

MAX_HELD_BYTES = 16 * 1024 * 1024
"""How much of unfinished requests a peer may have us hold."""

_WINDOW = 65_535
_HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]


@dataclass(frozen=True, slots=True)
class Call:
    """A whole request; answer it by `respond` or `fail` with its `stream_id`.

    `timeout_s` is how long the caller waits, None for ever.
    """

    stream_id: int
    path: str
    message: bytes
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """Nobody waits for this call any more."""

    stream_id: int


@dataclass(slots=True)
class _Request:
    path: str
    timeout_s: float | None
    message: UnaryMessage = field(default_factory=UnaryMessage)


class GrpcServer(H2Machine):
    """Tells of calls and takes their answers."""

    def __init__(self, now: float) -> None:
        super().__init__(now, client=False, idle_s=SERVER_IDLE_S, window=_WINDOW)
        self._requests: dict[int, _Request] = {}
        self._served: set[int] = set()

    def busy(self) -> bool:
        """Whether requests are coming in, being served, or being answered."""
        return bool(self._requests or self._served or self._bodies)

    @property
    def finished(self) -> bool:
        """Always False: it is the client that ends a connection."""
        return False

    def receive_data(self, data: bytes, now: float) -> list[Call | CallCancelled]:
        """What came in. Raises RemoteProtocolError: then flush and close."""
        found: list[Call | CallCancelled] = []
        for event in self._receive(data, now):
            match event:
                case GoAway():
                    pass
                case h2.events.RequestReceived():
                    self._counted()
                    headers = [(bytes(n), bytes(v)) for n, v in event.headers or []]
                    self._on_request(event.stream_id or 0, headers)
                case h2.events.DataReceived():
                    self._acknowledge(event)
                    self._on_data(event.stream_id or 0, event.data or b"")
                case h2.events.StreamEnded():
                    found += self._on_end(event.stream_id or 0)
                case h2.events.StreamReset():
                    found += self._on_reset(event.stream_id or 0)
                case h2.events.PingReceived() | h2.events.RemoteSettingsChanged():
                    self._counted()
                case _:
                    pass
        return found

    def respond(self, stream_id: int, message: bytes) -> None:
        """The answer of a call that went well; one that is too large for gRPC fails instead."""
        if stream_id not in self._served:
            return
        try:
            framed = frame_message(message)
        except LocalProtocolError:
            text = f"the answer of {len(message)} bytes is over gRPC's {MAX_MESSAGE_BYTES}"
            self.fail(stream_id, Status.RESOURCE_EXHAUSTED, text)
            return
        self._served.remove(stream_id)
        self._send_headers(stream_id, _HEAD, end=False)
        trailers = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
        self._send_body(stream_id, Body(memoryview(framed), trailers))

    def fail(self, stream_id: int, status: Status, text: str) -> None:
        """The end of a call that failed."""
        if stream_id in self._served:
            self._served.remove(stream_id)
            self._fail(stream_id, status, text)

    def _fail(self, stream_id: int, status: Status, text: str, http: bytes = b"200") -> None:
        headers = [
            (b":status", http),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", str(int(status)).encode()),
            (b"grpc-message", encode_status_text(text)),
        ]
        self._send_headers(stream_id, headers, end=True)

    def _send_headers(self, stream_id: int, headers: Headers, *, end: bool) -> None:
        try:
            self._h2.send_headers(stream_id, headers, end_stream=end)
        except h2.exceptions.ProtocolError:
            return  # the peer has closed this stream or the connection

    def _on_request(self, stream_id: int, headers: Headers) -> None:
        values = dict(headers)
        if values.get(b":method") != b"POST":
            self._fail(stream_id, Status.INTERNAL, "gRPC wants POST", b"405")
            return
        if not values.get(b"content-type", b"").startswith(b"application/grpc"):
            self._fail(stream_id, Status.INTERNAL, "not a gRPC content type", b"415")
            return
        if values.get(b"grpc-encoding", b"identity") != b"identity":
            self._fail(stream_id, Status.UNIMPLEMENTED, "no compression is supported")
            return
        try:
            timeout = values.get(b"grpc-timeout")
            timeout_s = None if timeout is None else parse_timeout(timeout)
        except RemoteProtocolError as error:
            self._fail(stream_id, Status.INTERNAL, str(error))
            return
        path = values.get(b":path", b"").decode("utf-8", "backslashreplace")
        self._requests[stream_id] = _Request(path, timeout_s)

    def _on_data(self, stream_id: int, data: bytes) -> None:
        request = self._requests.get(stream_id)
        if request is None:
            return
        try:
            request.message.receive_data(data)
        except MessageTooLarge as error:
            self._refuse(stream_id, Status.RESOURCE_EXHAUSTED, error)
        except RemoteProtocolError as error:
            self._refuse(stream_id, Status.UNIMPLEMENTED, error)
        if sum(held.message.size for held in self._requests.values()) > MAX_HELD_BYTES:
            raise RemoteProtocolError(
                f"peer has sent {MAX_HELD_BYTES} bytes of unfinished requests"
            )

    def _refuse(self, stream_id: int, status: Status, error: RemoteProtocolError) -> None:
        del self._requests[stream_id]
        self._fail(stream_id, status, str(error))

    def _on_end(self, stream_id: int) -> list[Call | CallCancelled]:
        request = self._requests.pop(stream_id, None)
        if request is None:
            return []
        try:
            message = request.message.finish()
        except RemoteProtocolError as error:
            self._fail(stream_id, Status.INTERNAL, str(error))
            return []
        self._served.add(stream_id)
        return [Call(stream_id, request.path, message, request.timeout_s)]

    def _on_reset(self, stream_id: int) -> list[Call | CallCancelled]:
        self._requests.pop(stream_id, None)
        self._drop_body(stream_id)
        if stream_id not in self._served:
            return []
        self._served.remove(stream_id)
        return [CallCancelled(stream_id)]
