"""One request and its answer on a data connection, as bytes in and events out.

    client:  ReqHeader message   ReqStructured message   [ZFSStream]
    server:  ResHeader message   [ResStructured message   [ZFSStream]]

A message or stream is any number of frames of its type, then one End; a stream whose source
failed has ErrTrailer frames before its End. `TRANSITIONS` is the whole grammar, a table for each
role that speaks; it does not know which side is ours. What breaks it is LocalProtocolError when
we were about to send it and RemoteProtocolError when it came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc.frames import (
    MAX_RECEIVED_PAYLOAD,
    RESET,
    FrameHeader,
    FrameParser,
    FrameType,
    encode_frames,
    encode_header,
)

__all__ = [
    "PING",
    "RECV",
    "SEND",
    "TRANSITIONS",
    "Event",
    "Exchange",
    "Heartbeat",
    "Inbound",
    "Message",
    "Outbound",
    "Reset",
    "Role",
    "State",
    "StreamEnd",
    "StreamFailed",
    "StreamFrame",
    "Switch",
    "response_error",
]

PING: Final = "/v1/ping"
SEND: Final = "/v1/send"
RECV: Final = "/v1/recv"

_OK = b"HANDLER OK\n"
_ERROR = b"HANDLER ERROR:\n"
_MAX_TRAILER_SENT = 32_768


class Role(Enum):
    """Who speaks."""

    CLIENT = "client"
    SERVER = "server"


class State(Enum):
    """What a side is in the middle of saying."""

    HEADER = "header"
    STRUCTURED = "structured part"
    STREAM = "stream"
    TRAILER = "error trailer"
    DONE = "end"
    RESET = "shutdown"


class Switch(Enum):
    """What decides the next state besides the frames themselves."""

    NOTHING_FOLLOWS = "nothing follows"


_T = FrameType
_ANYWHERE: Mapping[FrameType | Switch, State] = {_T.RESET: State.RESET}
_STREAM: Mapping[State, Mapping[FrameType | Switch, State]] = {
    State.STREAM: {
        _T.ZFS_STREAM: State.STREAM,
        _T.ERR_TRAILER: State.TRAILER,
        _T.END: State.DONE,
        Switch.NOTHING_FOLLOWS: State.DONE,
        **_ANYWHERE,
    },
    State.TRAILER: {_T.ERR_TRAILER: State.TRAILER, _T.END: State.DONE, **_ANYWHERE},
    State.DONE: _ANYWHERE,
    State.RESET: {},
}

TRANSITIONS: Mapping[Role, Mapping[State, Mapping[FrameType | Switch, State]]] = {
    Role.CLIENT: {
        State.HEADER: {
            _T.REQ_HEADER: State.HEADER,
            _T.END: State.STRUCTURED,
            **_ANYWHERE,
        },
        State.STRUCTURED: {
            _T.REQ_STRUCTURED: State.STRUCTURED,
            _T.END: State.STREAM,
            **_ANYWHERE,
        },
        **_STREAM,
    },
    Role.SERVER: {
        State.HEADER: {
            _T.RES_HEADER: State.HEADER,
            _T.END: State.STRUCTURED,
            **_ANYWHERE,
        },
        State.STRUCTURED: {
            _T.RES_STRUCTURED: State.STRUCTURED,
            _T.END: State.STREAM,
            Switch.NOTHING_FOLLOWS: State.DONE,
            **_ANYWHERE,
        },
        **_STREAM,
    },
}
"""`{role: {state: {what the role says: state}}}`. Heartbeats are not listed: they may stand
between any two frames and change nothing."""

_MESSAGE = {
    (Role.CLIENT, State.HEADER): FrameType.REQ_HEADER,
    (Role.CLIENT, State.STRUCTURED): FrameType.REQ_STRUCTURED,
    (Role.SERVER, State.HEADER): FrameType.RES_HEADER,
    (Role.SERVER, State.STRUCTURED): FrameType.RES_STRUCTURED,
}


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, of the type its frames had."""

    type: FrameType
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """`length` bytes of the stream come next; they leave by `Inbound.parser`."""

    length: int


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The stream is complete."""


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The stream is incomplete: its source failed with this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The peer lives."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer shuts the connection down."""


Event = Message | StreamFrame | StreamEnd | StreamFailed | Heartbeat | Reset


class Exchange:
    """Both halves of one request and its answer, seen from `our_role`."""

    def __init__(self, our_role: Role) -> None:
        theirs = Role.SERVER if our_role is Role.CLIENT else Role.CLIENT
        self.endpoint = ""
        """The endpoint asked for, once either half has named it."""
        self.inbound = Inbound(theirs, self)
        self.outbound = Outbound(our_role, self)


class _Half:
    def __init__(self, role: Role, exchange: Exchange) -> None:
        self._role = role
        self._exchange = exchange
        self.state = State.HEADER

    def _advance(self, said: FrameType | Switch) -> None:
        following = TRANSITIONS[self._role][self.state].get(said)
        if following is None:
            raise LocalProtocolError(
                f"{said.name} from the {self._role.value} in its {self.state.value}"
            )
        self.state = following

    def _message_done(self, kind: FrameType, data: bytes) -> None:
        self._advance(FrameType.END)
        if kind is FrameType.REQ_HEADER:
            self._exchange.endpoint = data.decode("utf-8", "backslashreplace")
        elif kind is FrameType.REQ_STRUCTURED:
            if self._exchange.endpoint != RECV:
                self._advance(Switch.NOTHING_FOLLOWS)
        elif kind is FrameType.RES_STRUCTURED:
            if self._exchange.endpoint != SEND:
                self._advance(Switch.NOTHING_FOLLOWS)
        elif data.startswith(_ERROR):
            self._advance(Switch.NOTHING_FOLLOWS)
        elif not data.startswith(_OK):
            raise LocalProtocolError(f"answer starts with {data[:40]!r}")


class Inbound(_Half):
    """What the peer says: feed `parser` with bytes, ask for events until there are none."""

    def __init__(self, role: Role, exchange: Exchange) -> None:
        super().__init__(role, exchange)
        self.parser = FrameParser()
        self._collected = bytearray()
        self._pending: FrameHeader | None = None

    def next_event(self) -> Event | None:
        """The next event, None when more bytes are needed. Raises RemoteProtocolError.

        After a StreamFrame its bytes must have left the parser before the next call.
        """
        while True:
            header = self._pending or self.parser.next_header()
            if header is None:
                return None
            try:
                event = self._on_frame(header)
            except LocalProtocolError as error:
                raise RemoteProtocolError(f"peer broke the protocol: {error}") from None
            if event is not None:
                return event
            if self._pending is not None:
                return None

    def receive_eof(self) -> None:
        """The peer's bytes have ended; RemoteProtocolError if that cuts something off."""
        if self.parser.mid_frame or self.state not in {State.DONE, State.RESET}:
            raise RemoteProtocolError(
                f"the connection ended in the {self._role.value}'s {self.state.value}"
            )

    def _on_frame(self, header: FrameHeader) -> Event | None:
        kind = header.type
        if self._pending is None:
            if kind is FrameType.HEARTBEAT:
                pass
            elif kind is FrameType.END:
                return self._on_end()
            else:
                self._advance(kind)
            if kind is FrameType.ZFS_STREAM:
                return StreamFrame(header.length) if header.length else None
            limit = MAX_RECEIVED_PAYLOAD[kind]
            if len(self._collected) + header.length > limit and kind is not FrameType.HEARTBEAT:
                raise LocalProtocolError(f"{kind.name} of more than {limit} bytes")
        payload = self.parser.take_payload(header.length)
        if kind not in {FrameType.HEARTBEAT, FrameType.RESET}:
            self._collected += payload
        self._pending = header if self.parser.payload_left else None
        if self._pending is not None:
            return None
        if kind is FrameType.HEARTBEAT:
            return Heartbeat()
        return Reset() if kind is FrameType.RESET else None

    def _on_end(self) -> Event:
        state, data = self.state, bytes(self._collected)
        self._collected.clear()
        kind = _MESSAGE.get((self._role, state))
        if kind is not None:
            self._message_done(kind, data)
            return Message(kind, data)
        self._advance(FrameType.END)
        if state is State.STREAM:
            return StreamEnd()
        try:
            return StreamFailed(data.decode())
        except UnicodeDecodeError:
            raise LocalProtocolError("error trailer is not UTF-8") from None


class Outbound(_Half):
    """What we say: each method gives the bytes to send."""

    def request(self, endpoint: str, body: bytes) -> bytes:
        """A whole request but for its stream."""
        header = self._message(FrameType.REQ_HEADER, endpoint.encode())
        return header + self._message(FrameType.REQ_STRUCTURED, body)

    def answer(self, body: bytes) -> bytes:
        """A whole good answer but for its stream."""
        return self._message(FrameType.RES_HEADER, _OK) + self._message(
            FrameType.RES_STRUCTURED, body
        )

    def refusal(self, text: str) -> bytes:
        """The answer of a handler that failed; the text is cut to what zrepl can take."""
        limit = MAX_RECEIVED_PAYLOAD[FrameType.RES_HEADER] - len(_ERROR)
        return self._message(FrameType.RES_HEADER, _ERROR + _cut(text, limit))

    def stream_frame(self, length: int) -> bytes:
        """The header of a stream frame; exactly `length` bytes must follow it."""
        self._advance(FrameType.ZFS_STREAM)
        return encode_header(FrameType.ZFS_STREAM, length)

    def stream_end(self) -> bytes:
        """The clean end of the stream."""
        if self.state is not State.STREAM:
            raise LocalProtocolError(f"end of the stream in the {self.state.value}")
        self._advance(FrameType.END)
        return encode_header(FrameType.END, 0)

    def stream_failed(self, text: str) -> bytes:
        """The end of a stream whose source failed."""
        # an empty text would read as a clean end
        trailer = _cut(text, _MAX_TRAILER_SENT) or b"unknown error"
        self._advance(FrameType.ERR_TRAILER)
        self._advance(FrameType.END)
        return encode_frames(FrameType.ERR_TRAILER, trailer) + encode_header(FrameType.END, 0)

    def reset(self) -> bytes:
        """The frame that starts the shutdown; nothing may follow it."""
        self._advance(FrameType.RESET)
        return RESET

    def _message(self, kind: FrameType, data: bytes) -> bytes:
        if len(data) > MAX_RECEIVED_PAYLOAD[kind]:
            raise LocalProtocolError(
                f"{kind.name} of {len(data)} bytes is over {MAX_RECEIVED_PAYLOAD[kind]}"
            )
        if _MESSAGE.get((self._role, self.state)) is not kind:
            raise LocalProtocolError(f"{kind.name} message in the {self.state.value}")
        self._message_done(kind, data)
        return encode_frames(kind, data) + encode_header(FrameType.END, 0)


def response_error(header: bytes) -> str | None:
    """The error text in a ResHeader message, None when the handler did well."""
    if header.startswith(_OK):
        return None
    return header.removeprefix(_ERROR).decode("utf-8", "replace")


def _cut(text: str, limit: int) -> bytes:
    data = text.encode("utf-8", "replace")
    return data if len(data) <= limit else data[:limit].decode("utf-8", "ignore").encode()
