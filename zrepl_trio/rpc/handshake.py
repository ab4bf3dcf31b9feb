"""The version banner: the first thing on every connection, written by both sides at once.

    LLLLLLLLLL ZREPL_ZFS_REPLICATION PROTOVERSION=VVVV EXTENSIONS=EEEE\\n{extension\\n}*

`LLLLLLLLLL` counts the bytes behind the space. A reader must take exactly `PREFIX_BYTES` and
then exactly the announced rest: the peer may already have sent what follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "LISTINGS",
    "MAX_BODY_BYTES",
    "PLACES",
    "PREFIX_BYTES",
    "PROTOCOL_VERSION",
    "RANGES",
    "SETTLES",
    "Banner",
    "body_length",
    "check_version",
    "parse_body",
    "render",
]

PROTOCOL_VERSION = 7
"""What zrepl 0.6 and 0.7 speak, and we with them."""

RANGES = "zrepl-trio ranges 1"
"""The extension of a side that takes `Between` in SendDry, Send, SendCompleted and Receive. zrepl 0.7
reads the names of extensions and does nothing about them."""

LISTINGS = "zrepl-trio listings 1"
"""The extension of a side that knows the call `ListVersions`."""

SETTLES = "zrepl-trio settles 1"
"""The extension of a side that knows the call `Settle`, and makes it at the end of its runs."""

PLACES = "zrepl-trio places 1"
"""The extension of a side that knows the call `Places`."""

PREFIX_BYTES = 11
"""Ten digits and a space."""

MAX_BODY_BYTES = 65_536
"""zrepl refuses a longer announcement, so do we."""

_MAX_NUMBER = 9999
_BODY = re.compile(
    rb"ZREPL_ZFS_REPLICATION PROTOVERSION=([0-9]{4,}) EXTENSIONS=([0-9]{4,})\n(.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Banner:
    """What one side said: its protocol version and the names of its extensions."""

    version: int
    extensions: tuple[str, ...] = ()


def render(version: int = PROTOCOL_VERSION, extensions: Sequence[str] = ()) -> bytes:
    """The banner to send; LocalProtocolError for what no peer would accept."""
    if not 1 <= version <= _MAX_NUMBER:
        raise LocalProtocolError(f"protocol version {version} is not in 1..{_MAX_NUMBER}")
    if len(extensions) >= _MAX_NUMBER:
        raise LocalProtocolError(f"{len(extensions)} extensions are too many")
    if any("\n" in extension for extension in extensions):
        raise LocalProtocolError("an extension's name has a line feed")
    lines = [f"ZREPL_ZFS_REPLICATION PROTOVERSION={version:04} EXTENSIONS={len(extensions):04}"]
    body = "".join(f"{line}\n" for line in [*lines, *extensions]).encode()
    if len(body) > MAX_BODY_BYTES:
        raise LocalProtocolError(f"a version banner of {len(body)} bytes is too long")
    return b"%010d " % len(body) + body


def body_length(prefix: bytes) -> int:
    """How many bytes follow these `PREFIX_BYTES`; RemoteProtocolError if that makes no sense."""
    digits, space = prefix[:-1], prefix[-1:]
    if len(prefix) != PREFIX_BYTES or space != b" " or not re.fullmatch(rb"[0-9]{10}", digits):
        raise RemoteProtocolError(f"not a zrepl peer: the connection starts with {prefix!r}")
    length = int(digits)
    if length > MAX_BODY_BYTES:
        raise RemoteProtocolError(f"version banner of {length} bytes is over {MAX_BODY_BYTES}")
    return length


def parse_body(body: bytes) -> Banner:
    """The banner in what followed the prefix; RemoteProtocolError if it is not one."""
    found = _BODY.fullmatch(body)
    if not found:
        raise RemoteProtocolError(f"not a zrepl version banner: {body[:80]!r}")
    version, count = int(found[1][:9]), int(found[2][:9])
    if not 1 <= version <= _MAX_NUMBER or count >= _MAX_NUMBER:
        raise RemoteProtocolError(f"version or extension count out of range in {body[:80]!r}")
    *lines, rest = found[3].split(b"\n")
    if rest or len(lines) != count:
        raise RemoteProtocolError(
            f"version banner announces {count} extensions, but {len(lines)} whole lines"
            f" and {len(rest)} more bytes follow"
        )
    try:
        return Banner(version, tuple(line.decode() for line in lines))
    except UnicodeDecodeError:
        raise RemoteProtocolError("an extension in the version banner is not UTF-8") from None


def check_version(theirs: Banner) -> None:
    """RemoteProtocolError, naming both versions, unless they speak ours."""
    if theirs.version != PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"peer speaks protocol version {theirs.version}, this side speaks"
            f" {PROTOCOL_VERSION}: both sides must run matching releases"
        )
