"""The label: 64 bytes by which a client says, after the banners, what the connection is for."""

from __future__ import annotations

from enum import Enum

from zrepl_trio.errors import RemoteProtocolError

__all__ = ["LABEL_BYTES", "Label", "parse", "render"]

LABEL_BYTES = 64
"""ASCII text padded with NUL; the server reads exactly this much and answers nothing."""


class Label(Enum):
    """What follows on the connection."""

    CONTROL = b"zrepl_control"
    """HTTP/2 with gRPC: the calls that carry no stream."""

    DATA = b"zrepl_data"
    """Frames: one ping, send or receive."""


def render(label: Label) -> bytes:
    """The bytes of a label."""
    return label.value.ljust(LABEL_BYTES, b"\0")


def parse(data: bytes) -> Label:
    """The label in these bytes, all of which count; RemoteProtocolError for any other."""
    for label in Label:
        if data == render(label):
            return label
    raise RemoteProtocolError(f"unknown connection label {data[:LABEL_BYTES].rstrip(bytes(1))!r}")
