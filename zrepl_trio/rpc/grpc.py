"""What gRPC adds to HTTP/2: status codes, the message prefix, and header encodings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "MAX_ANSWER_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_STATUS_TEXT_BYTES",
    "PREFIX_BYTES",
    "Failure",
    "MessageTooLarge",
    "Status",
    "UnaryMessage",
    "decode_status_text",
    "encode_status_text",
    "frame_message",
    "parse_timeout",
]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""grpc-go's limit for a received message, so ours for what we send, and for requests."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that we take: a zrepl sends larger ones than a zrepl takes, as of 60,000 snapshots of one
dataset. This is for a million."""

MAX_STATUS_TEXT_BYTES = 4096
"""How much of an error text we send: a header's encoding takes time that grows with its square,
0.1 s at 24 KiB."""

PREFIX_BYTES = 5
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Status(IntEnum):
    """The status codes that we send or tell apart."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed: `status` is a code of gRPC (any number a peer sent), `text` its words."""

    status: int
    text: str


class MessageTooLarge(RemoteProtocolError):
    """A message over what is taken was announced."""


def frame_message(message: bytes) -> bytes:
    """One gRPC message, uncompressed; LocalProtocolError if no peer would take it."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError(
            f"a message of {len(message)} bytes is over gRPC's {MAX_MESSAGE_BYTES}"
        )
    return b"\0" + len(message).to_bytes(4, "big") + message


class UnaryMessage:
    """Collects the one message of a call's direction, refusing it before it grows larger than `most` bytes."""

    def __init__(self, most: int = MAX_MESSAGE_BYTES) -> None:
        self._most = most
        self._data = bytearray()

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return len(self._data)

    def receive_data(self, data: bytes) -> None:
        """Bytes of DATA frames. Raises MessageTooLarge or RemoteProtocolError."""
        self._data += data
        if len(self._data) < PREFIX_BYTES:
            return
        if self._data[0] != 0:
            raise RemoteProtocolError("compressed message, though we accept no compression")
        length = int.from_bytes(self._data[1:PREFIX_BYTES], "big")
        if length > self._most:
            raise MessageTooLarge(f"message of {length} bytes is over {self._most}")
        if len(self._data) > PREFIX_BYTES + length:
            raise RemoteProtocolError("more than one message in a unary call")

    def finish(self) -> bytes:
        """The message, at the end of the stream; RemoteProtocolError if it is not whole."""
        length = int.from_bytes(self._data[1:PREFIX_BYTES], "big")
        if len(self._data) != PREFIX_BYTES + length:
            raise RemoteProtocolError(f"message cut off after {len(self._data)} bytes")
        return bytes(self._data[PREFIX_BYTES:])


def encode_status_text(text: str) -> bytes:
    """`grpc-message`: percent-coded outside printable ASCII, cut to MAX_STATUS_TEXT_BYTES."""
    data = text.encode("utf-8", "replace")
    if len(data) > MAX_STATUS_TEXT_BYTES:
        data = data[:MAX_STATUS_TEXT_BYTES].decode("utf-8", "ignore").encode()
    return b"".join(
        bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in data
    )


def decode_status_text(value: bytes) -> str:
    """The text in `grpc-message`; broken codes are left as they are, as gRPC asks."""
    data = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1].decode("ascii"), 16)]), value
    )
    return data.decode("utf-8", "replace")


def parse_timeout(value: bytes) -> float:
    """Seconds in `grpc-timeout`; RemoteProtocolError if it is malformed."""
    found = _TIMEOUT.fullmatch(value)
    if not found:
        raise RemoteProtocolError(f"malformed grpc-timeout {value[:40]!r}")
    return int(found[1]) * _UNITS[found[2]]
