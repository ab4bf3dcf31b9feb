"""Frames of a data connection: type and payload length, big-endian, then the payload.

The parser never asks for more than the frame at hand, so a driver that reads at most `want`
bytes leaves every payload on the wire until somebody takes it: that is what lets a stream's
bytes be spliced past Python. Lengths are checked before anything is buffered.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "HEADER_BYTES",
    "HEARTBEAT",
    "MAX_RECEIVED_PAYLOAD",
    "MAX_SENT_PAYLOAD",
    "RESET",
    "FrameHeader",
    "FrameParser",
    "FrameType",
    "decode_header",
    "encode_frames",
    "encode_header",
]

_HEADER = struct.Struct(">II")
HEADER_BYTES = _HEADER.size

MAX_SENT_PAYLOAD = 524_288
"""The most that zrepl's own writer puts in a frame (2^19), so the most that we do."""


class FrameType(IntEnum):
    """What a frame carries. Bits 28 to 31 are the connection's, 24 to 27 the heartbeat's."""

    REQ_HEADER = 1
    REQ_STRUCTURED = 2
    RES_HEADER = 3
    RES_STRUCTURED = 4
    ZFS_STREAM = 5
    ERR_TRAILER = 1 << 16
    END = 1 << 17
    HEARTBEAT = 1 << 24
    RESET = 1 << 28


MAX_RECEIVED_PAYLOAD: Final = {
    FrameType.REQ_HEADER: 32_768,
    FrameType.REQ_STRUCTURED: 4_194_304,
    FrameType.RES_HEADER: 32_768,
    FrameType.RES_STRUCTURED: 8_388_608,
    # stream bytes are not buffered; the bound only tells a stream from noise
    FrameType.ZFS_STREAM: 16_777_216,
    FrameType.ERR_TRAILER: 1_048_576,
    FrameType.END: 0,
    # zrepl takes payload here and ignores it
    FrameType.HEARTBEAT: 4096,
    FrameType.RESET: 4096,
}
"""The longest payload taken of each type: for messages zrepl's own limit of the whole message."""

_EMPTY = {FrameType.END, FrameType.HEARTBEAT, FrameType.RESET}


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The eight bytes before a payload of `length` bytes."""

    type: FrameType
    length: int


def encode_header(kind: FrameType, length: int) -> bytes:
    """A frame's header; LocalProtocolError for a length that zrepl would not write."""
    if not 0 <= length <= (0 if kind in _EMPTY else MAX_SENT_PAYLOAD):
        raise LocalProtocolError(f"a {kind.name} frame of {length} bytes")
    return _HEADER.pack(kind, length)


def decode_header(data: bytes) -> FrameHeader:
    """The header in exactly `HEADER_BYTES`; RemoteProtocolError for a type or length not allowed."""
    number, length = _HEADER.unpack(data)
    try:
        kind = FrameType(number)
    except ValueError:
        raise RemoteProtocolError(f"frame of unknown type {number:#010x}") from None
    if length > MAX_RECEIVED_PAYLOAD[kind]:
        raise RemoteProtocolError(
            f"{kind.name} frame of {length} bytes is over {MAX_RECEIVED_PAYLOAD[kind]}"
        )
    return FrameHeader(kind, length)


def encode_frames(kind: FrameType, payload: bytes) -> bytes:
    """`payload` as frames of one type; no frame at all for an empty one, as zrepl does."""
    parts = [payload[at : at + MAX_SENT_PAYLOAD] for at in range(0, len(payload), MAX_SENT_PAYLOAD)]
    return b"".join(encode_header(kind, len(part)) + part for part in parts)


HEARTBEAT = encode_header(FrameType.HEARTBEAT, 0)
RESET = encode_header(FrameType.RESET, 0)


class FrameParser:
    """Takes bytes in any pieces, gives headers, and the payload between them.

    After `next_header` gave a header, its payload must leave, by `take_payload` or, when it was
    moved without passing through here, by `payload_moved`, before the next header comes.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._payload_left = 0

    @property
    def payload_left(self) -> int:
        """How many bytes of the current frame's payload have not left yet."""
        return self._payload_left

    @property
    def buffered(self) -> int:
        """How many received bytes wait here; 0 between frames for a driver that heeds `want`."""
        return len(self._buffer)

    @property
    def want(self) -> int:
        """How many bytes may be read from the wire now without reading ahead."""
        return max((self._payload_left or HEADER_BYTES) - len(self._buffer), 0)

    @property
    def mid_frame(self) -> bool:
        """Whether an end of the bytes here would cut a frame in two."""
        return self._payload_left > 0 or 0 < len(self._buffer) < HEADER_BYTES

    def receive_data(self, data: bytes) -> None:
        """Bytes from the wire."""
        self._buffer += data

    def next_header(self) -> FrameHeader | None:
        """The next frame's header, None until it is here whole."""
        if self._payload_left:
            raise LocalProtocolError(f"{self._payload_left} bytes of the last frame not taken")
        if len(self._buffer) < HEADER_BYTES:
            return None
        header = decode_header(bytes(self._buffer[:HEADER_BYTES]))
        del self._buffer[:HEADER_BYTES]
        self._payload_left = header.length
        return header

    def take_payload(self, at_most: int) -> bytes:
        """Payload bytes that are here already, `at_most` so many; may be none."""
        count = min(at_most, self._payload_left, len(self._buffer))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._payload_left -= count
        return data

    def payload_moved(self, count: int) -> None:
        """`count` bytes of the payload went from the wire elsewhere, not through here."""
        if self._buffer:
            raise LocalProtocolError("payload was moved past bytes that wait in the parser")
        if not 0 <= count <= self._payload_left:
            raise LocalProtocolError(f"{count} bytes moved of a payload of {self._payload_left}")
        self._payload_left -= count
