"""HTTP/2 as both sides of a control connection need it, on h2, without I/O.

Adds to h2: bodies wait for flow control; keepalive; bounds on what a peer can make us hold; and
GOAWAY. h2 takes a GOAWAY for the end of everything, while gRPC goes on with the calls that the
peer still serves, so those frames are taken out of the bytes before h2 sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from zrepl_trio.errors import PeerTimeout, RemoteProtocolError
from zrepl_trio.rpc.keepalive import TIMEOUT_S, Action, Keepalive

__all__ = ["MAX_STREAMS", "Body", "GoAway", "H2Machine", "Headers"]

MAX_STREAMS = 100
"""How many calls a peer may have open; what a Go client assumes anyway."""

MAX_HEADER_BYTES = 65_536
"""Bound of a call's headers, both as they come and uncompressed."""

MAX_UNFLUSHED_REPLIES = 10_000
"""Requests, pings and settings that a peer may send without reading our answers to them."""

MAX_DEBUG_BYTES = 200
_FLUSH_BYTES = 256 * 1024
_PREFACE_BYTES = 24
_FRAME_HEAD_BYTES = 9
_HEADERS_TYPE, _GOAWAY_TYPE, _CONTINUATION_TYPE = 1, 7, 9

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no more calls, and serves none above `last_stream`."""

    last_stream: int
    code: int
    debug: str

    def __str__(self) -> str:
        try:
            name = h2.errors.ErrorCodes(self.code).name
        except ValueError:
            name = f"error {self.code}"
        return f"the peer is leaving ({name}{': ' if self.debug else ''}{self.debug})"


@dataclass(slots=True)
class Body:
    """What is still to be sent on a stream: data, then `trailers`, or a bare end."""

    data: memoryview
    trailers: Headers = field(default_factory=list)


class H2Machine:
    """Base of the two gRPC machines: bytes and times in; events, bytes and deadlines out."""

    def __init__(self, now: float, *, client: bool, idle_s: float, window: int) -> None:
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding=None)
        )
        codes = h2.settings.SettingCodes
        values = {
            codes.INITIAL_WINDOW_SIZE: window,
            codes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
        }
        if client:
            values[codes.ENABLE_PUSH] = 0
        else:
            values[codes.MAX_CONCURRENT_STREAMS] = MAX_STREAMS
        self._h2.local_settings = h2.settings.Settings(client=client, initial_values=values)
        self._h2.initiate_connection()
        if window > 65_535:
            self._h2.increment_flow_control_window(window - 65_535)
        self._keepalive = Keepalive(now, idle_s)
        self._bodies: dict[int, Body] = {}
        self._raw_left = 0 if client else _PREFACE_BYTES
        self._head = b""
        self._header_block = 0
        self._goaway_left = 0
        self._goaway_data = b""
        self._replies = 0
        self.goaway: GoAway | None = None
        """The peer's GOAWAY, once it came."""

    def data_to_send(self) -> bytes:
        """The next bytes to send, as much as flow control allows; ask again until none come."""
        budget = _FLUSH_BYTES
        for stream_id, body in list(self._bodies.items()):
            budget = self._pump(stream_id, body, budget)
        self._replies = 0
        return self._h2.data_to_send()

    def next_deadline(self, now: float) -> float:
        """When to call `on_time`."""
        return self._keepalive.next_deadline(now)

    def on_time(self, now: float) -> None:
        """Ask the peer for a sign of life if one is due; PeerTimeout when it gave none."""
        match self._keepalive.on_time(now):
            case Action.PING:
                self._h2.ping(bytes(8))
            case Action.GIVE_UP:
                raise PeerTimeout(f"no answer to a keepalive ping for {TIMEOUT_S:g} s")
            case Action.NOTHING:
                pass

    def close(self, debug: str, *, fault: bool = False) -> None:
        """Tell the peer that we leave: in order, or for a fault of its own."""
        codes = h2.errors.ErrorCodes
        code = codes.PROTOCOL_ERROR if fault else codes.NO_ERROR
        # h2 queues a GOAWAY of its own for what it finds wrong; a second one does no harm
        self._h2.close_connection(code, debug.encode()[:MAX_DEBUG_BYTES], last_stream_id=0)

    def _receive(self, data: bytes, now: float) -> Iterator[h2.events.Event | GoAway]:
        self._keepalive.heard(now)
        try:
            for piece in self._without_goaway(data):
                if isinstance(piece, GoAway):
                    self.goaway = piece
                    yield piece
                else:
                    yield from self._h2.receive_data(piece)
        except h2.exceptions.ProtocolError as error:
            raise RemoteProtocolError(f"peer broke HTTP/2: {_described(error)}") from error

    def _counted(self) -> None:
        # each costs us a reply that waits in memory while the peer does not read
        self._replies += 1
        if self._replies > MAX_UNFLUSHED_REPLIES:
            raise RemoteProtocolError("peer floods the connection and reads no answers")

    def _send_body(self, stream_id: int, body: Body) -> None:
        self._bodies[stream_id] = body

    def _drop_body(self, stream_id: int) -> None:
        self._bodies.pop(stream_id, None)

    def _pump(self, stream_id: int, body: Body, budget: int) -> int:
        try:
            while body.data:
                window = self._h2.local_flow_control_window(stream_id)
                size = min(window, self._h2.max_outbound_frame_size, len(body.data), budget)
                if size <= 0:
                    return budget
                last = size == len(body.data)
                self._h2.send_data(
                    stream_id, bytes(body.data[:size]), end_stream=last and not body.trailers
                )
                body.data = body.data[size:]
                budget -= size
            if body.trailers:
                self._h2.send_headers(stream_id, body.trailers, end_stream=True)
        except h2.exceptions.ProtocolError:
            pass  # the peer has closed this stream
        del self._bodies[stream_id]
        return budget

    def _reset(self, stream_id: int, code: h2.errors.ErrorCodes) -> None:
        self._drop_body(stream_id)
        try:
            self._h2.reset_stream(stream_id, code)
        except h2.exceptions.ProtocolError:
            return  # it is closed already

    def _acknowledge(self, event: h2.events.DataReceived) -> None:
        if event.flow_controlled_length and event.stream_id:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _without_goaway(self, data: bytes) -> Iterator[bytes | GoAway]:
        while data:
            if self._raw_left:
                piece, data = data[: self._raw_left], data[self._raw_left :]
                self._raw_left -= len(piece)
                yield piece
            elif self._goaway_left:
                piece, data = data[: self._goaway_left], data[self._goaway_left :]
                self._goaway_left -= len(piece)
                self._goaway_data += piece
                if not self._goaway_left:
                    yield self._parse_goaway()
            else:
                count = _FRAME_HEAD_BYTES - len(self._head)
                self._head, data = self._head + data[:count], data[count:]
                if len(self._head) == _FRAME_HEAD_BYTES:
                    yield from self._start_frame()

    def _start_frame(self) -> Iterator[bytes]:
        head, self._head = self._head, b""
        length, kind = int.from_bytes(head[:3], "big"), head[3]
        # h2 looks at a length only when the whole frame is there, and joins any CONTINUATIONs
        self._header_block = length + (self._header_block if kind == _CONTINUATION_TYPE else 0)
        if length > self._h2.max_inbound_frame_size:
            raise RemoteProtocolError(f"peer broke HTTP/2: frame of {length} bytes")
        if kind in {_HEADERS_TYPE, _CONTINUATION_TYPE} and self._header_block > MAX_HEADER_BYTES:
            raise RemoteProtocolError(f"peer broke HTTP/2: headers over {MAX_HEADER_BYTES} bytes")
        if kind != _GOAWAY_TYPE:
            self._raw_left = length
            yield head
            return
        if length < 8:
            raise RemoteProtocolError(f"peer broke HTTP/2: GOAWAY of {length} bytes")
        self._goaway_left, self._goaway_data = length, b""

    def _parse_goaway(self) -> GoAway:
        data = self._goaway_data
        return GoAway(
            last_stream=int.from_bytes(data[:4], "big") & 0x7FFF_FFFF,
            code=int.from_bytes(data[4:8], "big"),
            debug=data[8:].decode("utf-8", "replace")[:MAX_DEBUG_BYTES],
        )


def _described(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
