"""What the messages on the wire are made of, checked when read: paths, names, versions. Pure."""

from __future__ import annotations

import re
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc import creation
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import MAX_NAME_BYTES, DatasetPath, InvalidName, check_snapshot_name

__all__ = [
    "MAX_RESUME_TOKEN",
    "InvalidContent",
    "parse_message",
    "serialize",
    "token_from",
    "uint64",
    "version_from",
    "version_of",
    "version_pdu",
    "wire_path",
]

MAX_RESUME_TOKEN = 65_536
"""Characters; real tokens have some hundred, with redaction lists a few thousand."""
_TOKEN = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]*")
_MAX_GUID = 2**64 - 1
_KINDS = {
    pdu.FilesystemVersion.Snapshot: VersionKind.SNAPSHOT,
    pdu.FilesystemVersion.Bookmark: VersionKind.BOOKMARK,
}
_M = TypeVar("_M", bound=Message)


class InvalidContent(RemoteProtocolError):
    """The message parses, but what it names or says is not allowed; the text names it."""


def parse_message(message: _M, data: bytes) -> _M:
    """`message`, filled; RemoteProtocolError when the bytes are none of its kind."""
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise RemoteProtocolError(f"{len(data)} bytes are no {name}: {error}") from None
    return message


def serialize(message: Message) -> bytes:
    """The same bytes for the same message."""
    return message.SerializeToString(deterministic=True)


def wire_path(text: str) -> DatasetPath:
    """A checked path; InvalidContent."""
    try:
        return DatasetPath.parse(text)
    except InvalidName as error:
        raise InvalidContent(str(error)) from None


def token_from(text: str) -> str | None:
    """A resume token, None when there is none; InvalidContent."""
    if not text:
        return None
    if len(text) > MAX_RESUME_TOKEN or not _TOKEN.fullmatch(text):
        raise InvalidContent(f"not a resume token ({len(text)} characters): {text[:60]!r}")
    return text


def uint64(number: int, what: str) -> int:
    """The number; LocalProtocolError when it does not fit."""
    if not 0 <= number <= _MAX_GUID:
        raise LocalProtocolError(f"{what} {number} does not fit 64 bits")
    return number


def version_pdu(version: FilesystemVersion) -> pdu.FilesystemVersion:
    """A version as it is sent."""
    return pdu.FilesystemVersion(
        Type=pdu.FilesystemVersion.Snapshot
        if version.is_snapshot
        else pdu.FilesystemVersion.Bookmark,
        Name=version.name,
        Guid=uint64(version.guid, "guid"),
        CreateTXG=uint64(version.createtxg, "createtxg"),
        Creation=creation.render(version.creation),
    )


def version_from(message: pdu.FilesystemVersion) -> FilesystemVersion:
    """A version as it came, its name checked; InvalidContent."""
    kind = _KINDS.get(message.Type)
    if kind is None:
        raise InvalidContent(f"version {message.Name!r} is of unknown type {message.Type}")
    try:
        return FilesystemVersion(
            kind=kind,
            name=check_snapshot_name(message.Name, f"{kind.name.lower()} name"),
            guid=message.Guid,
            createtxg=message.CreateTXG,
            creation=creation.parse(message.Creation),
        )
    except ValueError as error:
        raise InvalidContent(str(error)) from None


def version_of(filesystem: DatasetPath, message: pdu.FilesystemVersion) -> FilesystemVersion:
    """The same, whose name fits with that of its filesystem."""
    version = version_from(message)
    if len(full := version.full(filesystem)) > MAX_NAME_BYTES:
        raise InvalidContent(f"{full[:80]!r}… is longer than {MAX_NAME_BYTES} bytes")
    return version
