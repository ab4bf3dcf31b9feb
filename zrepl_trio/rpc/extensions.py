"""Messages of the calls that zrepl does not have. Pure.

A peer without them answers that it does not know the call (UNIMPLEMENTED).
"""

from __future__ import annotations

import re

from zrepl_trio.endpoint.model import ResolveRequest, Way
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import (
    InvalidContent,
    parse_message,
    serialize,
    version_of,
    version_pdu,
    wire_path,
)

__all__ = [
    "decode_destroy_size",
    "decode_resolve",
    "decode_resolved",
    "encode_destroy_size",
    "encode_resolve",
    "encode_resolved",
]

_MOST_OLD = 2
_STAMP = re.compile(r"[0-9TZ]{0,32}", re.ASCII)


def encode_resolve(request: ResolveRequest) -> bytes:
    """Call `Resolve`."""
    return serialize(
        pdu.ResolveReq(
            Filesystem=request.filesystem,
            Way=request.way.value,
            Expected=[version_pdu(version) for version in request.expected],
            To=version_pdu(request.to) if request.to is not None else None,
            Stamp=request.stamp,
            Old=request.old,
        )
    )


def decode_resolve(data: bytes) -> ResolveRequest:
    """Raises RemoteProtocolError, or its InvalidContent for what makes no sense."""
    message = parse_message(pdu.ResolveReq(), data)
    filesystem = wire_path(message.Filesystem)
    try:
        way = Way(message.Way)
    except ValueError:
        raise InvalidContent(f"unknown way {message.Way[:40]!r} to resolve a conflict") from None
    to = version_of(filesystem, message.To) if message.HasField("To") else None
    if (way is Way.ROLLBACK) != (to is not None):
        raise InvalidContent(f"{way.value} with a snapshot to go back to, or without: {to}")
    if (way is Way.RENAME) != bool(message.Old):
        raise InvalidContent(f"{way.value} with old names, or without: {len(message.Old)}")
    if _STAMP.fullmatch(message.Stamp) is None:
        raise InvalidContent("the stamp is no time")
    return ResolveRequest(
        filesystem=filesystem,
        way=way,
        expected=tuple(version_of(filesystem, version) for version in message.Expected),
        to=to,
        stamp=message.Stamp,
        old=tuple(wire_path(old) for old in message.Old[:_MOST_OLD]),
    )


def encode_destroy_size(size: int) -> bytes:
    """Answer to `DestroySize`, whose request is that of DestroySnapshots."""
    return serialize(pdu.DestroySizeRes(Bytes=size))


def decode_destroy_size(data: bytes) -> int:
    return parse_message(pdu.DestroySizeRes(), data).Bytes


def encode_resolved(done: str) -> bytes:
    """Answer to `Resolve`: what was done."""
    return serialize(pdu.ResolveRes(Done=done))


def decode_resolved(data: bytes) -> str:
    return parse_message(pdu.ResolveRes(), data).Done
