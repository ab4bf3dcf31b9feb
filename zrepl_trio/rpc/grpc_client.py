"""The calling side of gRPC: unary calls over one HTTP/2 connection, without I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import h2.errors
import h2.events

from zrepl_trio import __version__
from zrepl_trio.errors import RemoteProtocolError
from zrepl_trio.rpc.grpc import (
    MAX_ANSWER_BYTES,
    Failure,
    MessageTooLarge,
    Status,
    UnaryMessage,
    decode_status_text,
    frame_message,
)
from zrepl_trio.rpc.h2conn import MAX_STREAMS, Body, GoAway, H2Machine, Headers
from zrepl_trio.rpc.keepalive import CLIENT_IDLE_S

__all__ = ["CallDone", "GrpcClient"]

_WINDOW = 1024 * 1024
_GATEWAY_TROUBLE = {b"429", b"502", b"503", b"504"}
_RESET_STATUS = {
    h2.errors.ErrorCodes.REFUSED_STREAM: Status.UNAVAILABLE,
    h2.errors.ErrorCodes.CANCEL: Status.CANCELLED,
    h2.errors.ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
}


_SMALLER = (
    ": prune there, split it among jobs, or have zrepl-trio on both sides, which lists in parts"
)
"""Only listings grow so large."""


@dataclass(frozen=True, slots=True)
class CallDone:
    """A call has ended, with the answer's message or with a failure."""

    call: int
    result: bytes | Failure


@dataclass(slots=True)
class _Call:
    number: int
    path: str
    request: bytes
    stream_id: int = 0
    answer: UnaryMessage = field(default_factory=lambda: UnaryMessage(MAX_ANSWER_BYTES))
    failure: Failure | None = None
    status: Failure | None = None
    headers_seen: bool = False


class GrpcClient(H2Machine):
    """Starts calls and tells how they end. Calls are known by the numbers `start_call` gives."""

    def __init__(self, now: float) -> None:
        super().__init__(now, client=True, idle_s=CLIENT_IDLE_S, window=_WINDOW)
        self._numbers = 0
        self._queue: deque[_Call] = deque()
        self._calls: dict[int, _Call] = {}
        self._closed = False

    @property
    def accepting(self) -> bool:
        """Whether new calls may be started here: not once the peer is leaving, or we are."""
        return self.goaway is None and not self._closed

    @property
    def active(self) -> list[int]:
        """The calls that have not ended."""
        return [call.number for call in [*self._calls.values(), *self._queue]]

    @property
    def finished(self) -> bool:
        """Whether the peer is leaving and no call is left on this connection."""
        return self.goaway is not None and not self._calls

    def start_call(self, path: str, message: bytes) -> int:
        """Begin a call; it waits its turn when the peer allows no more at once."""
        self._numbers += 1
        self._queue.append(_Call(self._numbers, path, frame_message(message)))
        return self._numbers

    def cancel_call(self, number: int) -> None:
        """Nobody waits for this call any more."""
        self._queue = deque(call for call in self._queue if call.number != number)
        for call in list(self._calls.values()):
            if call.number == number:
                del self._calls[call.stream_id]
                self._reset(call.stream_id, h2.errors.ErrorCodes.CANCEL)

    def close(self, debug: str, *, fault: bool = False) -> None:
        """As H2Machine's; no call is begun any more, nor what waits for its turn."""
        self._closed = True
        self._queue.clear()
        super().close(debug, fault=fault)

    def data_to_send(self) -> bytes:
        """As H2Machine's; also begins calls that were waiting."""
        # h2 knows no limit before the server's settings are here, and there may be one
        limit = min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS)
        while self._queue and self.accepting and self._h2.open_outbound_streams < limit:
            self._begin(self._queue.popleft())
        return super().data_to_send()

    def receive_data(self, data: bytes, now: float) -> list[CallDone]:
        """Calls that ended by these bytes. Raises RemoteProtocolError: then close."""
        done: list[CallDone] = []
        for event in self._receive(data, now):
            match event:
                case GoAway():
                    done += self._left_behind(event)
                case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                    if call := self._calls.get(event.stream_id or 0):
                        self._on_headers(
                            call, [(bytes(n), bytes(v)) for n, v in event.headers or []]
                        )
                case h2.events.DataReceived():
                    self._acknowledge(event)
                    done += self._on_data(event.stream_id or 0, event.data or b"")
                case h2.events.StreamEnded():
                    done += self._on_end(event.stream_id or 0)
                case h2.events.StreamReset():
                    done += self._on_reset(event.stream_id or 0, int(event.error_code or 0))
                case h2.events.PingReceived() | h2.events.RemoteSettingsChanged():
                    self._counted()
                case _:
                    pass
        return done

    def _begin(self, call: _Call) -> None:
        call.stream_id = self._h2.get_next_available_stream_id()
        self._calls[call.stream_id] = call
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", call.path.encode()),
            (b":authority", b""),
            (b"content-type", b"application/grpc"),
            (b"user-agent", f"zrepl-trio/{__version__}".encode()),
            (b"te", b"trailers"),
        ]
        self._h2.send_headers(call.stream_id, headers)
        self._send_body(call.stream_id, Body(memoryview(call.request)))

    def _left_behind(self, goaway: GoAway) -> list[CallDone]:
        lost = [c for c in self._calls.values() if c.stream_id > goaway.last_stream]
        for call in lost:
            del self._calls[call.stream_id]
            self._drop_body(call.stream_id)
        lost += self._queue
        self._queue.clear()
        failure = Failure(Status.UNAVAILABLE, str(goaway))
        return [CallDone(call.number, failure) for call in lost]

    def _on_headers(self, call: _Call, headers: Headers) -> None:
        values = dict(headers)
        if not call.headers_seen:
            call.headers_seen = True
            http = values.get(b":status", b"")
            kind = values.get(b"content-type", b"")
            if http != b"200":
                status = Status.UNAVAILABLE if http in _GATEWAY_TROUBLE else Status.UNKNOWN
                call.failure = Failure(status, f"the peer answered with HTTP status {http!r}")
            elif not kind.startswith(b"application/grpc"):
                call.failure = Failure(Status.UNKNOWN, f"the peer answered with {kind[:60]!r}")
            elif values.get(b"grpc-encoding", b"identity") != b"identity":
                call.failure = Failure(Status.INTERNAL, "the peer's answer is compressed")
        if b"grpc-status" in values:
            number = values[b"grpc-status"]
            text = decode_status_text(values.get(b"grpc-message", b""))
            known = number.isdigit() and len(number) < 6
            call.status = Failure(int(number) if known else Status.UNKNOWN, text)

    def _on_data(self, stream_id: int, data: bytes) -> list[CallDone]:
        call = self._calls.get(stream_id)
        if call is None:
            return []
        try:
            call.answer.receive_data(data)
        except RemoteProtocolError as error:
            del self._calls[stream_id]
            self._reset(stream_id, h2.errors.ErrorCodes.CANCEL)
            text = f"{error}{_SMALLER}" if isinstance(error, MessageTooLarge) else str(error)
            failure = call.failure or Failure(Status.RESOURCE_EXHAUSTED, text)
            return [CallDone(call.number, failure)]
        return []

    def _on_end(self, stream_id: int) -> list[CallDone]:
        call = self._calls.pop(stream_id, None)
        if call is None:
            return []
        self._drop_body(stream_id)
        if call.failure is not None:
            return [CallDone(call.number, call.failure)]
        if call.status is None:
            return [CallDone(call.number, Failure(Status.INTERNAL, "answer without a status"))]
        if call.status.status != Status.OK:
            return [CallDone(call.number, call.status)]
        try:
            return [CallDone(call.number, call.answer.finish())]
        except RemoteProtocolError as error:
            return [CallDone(call.number, Failure(Status.INTERNAL, str(error)))]

    def _on_reset(self, stream_id: int, code: int) -> list[CallDone]:
        call = self._calls.pop(stream_id, None)
        self._drop_body(stream_id)
        if call is None:
            return []
        try:
            known = h2.errors.ErrorCodes(code)
        except ValueError:
            return [CallDone(call.number, Failure(Status.INTERNAL, f"call reset, code {code}"))]
        status = _RESET_STATUS.get(known, Status.INTERNAL)
        return [CallDone(call.number, Failure(status, f"the peer reset the call: {known.name}"))]
