"""The call that lists the versions of many filesystems: its messages. Pure.

zrepl asks for one filesystem after the other, with a message of five fields for each version. That is
most of the work of a run that finds nothing new, and a filesystem with 50,000 snapshots does not fit
into one answer. Here, an answer has many filesystems, or a part of one, and a column for each field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zrepl_trio.errors import RemoteProtocolError
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import InvalidContent, parse_message, serialize, wire_path
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import DatasetPath, InvalidName, check_snapshot_name

__all__ = [
    "ASKED_AT_ONCE",
    "MOST_VERSIONS",
    "Answer",
    "Listed",
    "decode_listed",
    "decode_request",
    "encode_request",
]

MOST_VERSIONS = 2_000_000
"""More than that of one filesystem are taken for a peer that never ends."""

ASKED_AT_ONCE = 500
"""Filesystems in one request: some tens of KiB of names."""

_MAX_BYTES = 3 << 20
"""Well below gRPC's 4 MiB."""

_MOST_OF_ERROR = 500  # characters, of up to 4 bytes
_BETWEEN_NAMES = "/"  # in no name
_BYTES_BESIDE_NAME = 32  # at most 9 + 10 + 10, a separator, and some for a bookmark


@dataclass(frozen=True, slots=True)
class Listed:
    """What an answer has of one filesystem: versions by createtxg, with `more` to come, or why there
    are none."""

    versions: Sequence[FilesystemVersion] = ()
    error: str = ""
    more: bool = False


def encode_request(filesystems: Sequence[DatasetPath], *, after: int = 0) -> bytes:
    """Ask for these; of the first, for what is newer than createtxg `after`."""
    return serialize(pdu.ListVersionsReq(Filesystems=filesystems, After=after))


def decode_request(data: bytes) -> tuple[list[DatasetPath], int]:
    """The filesystems, and the createtxg; RemoteProtocolError."""
    message = parse_message(pdu.ListVersionsReq(), data)
    if len(message.Filesystems) > ASKED_AT_ONCE:
        raise InvalidContent(f"{len(message.Filesystems)} filesystems are too many to ask for")
    return [wire_path(filesystem) for filesystem in message.Filesystems], message.After


class Answer:
    """An answer in the making."""

    def __init__(self, *, after: int = 0, at_most: int = _MAX_BYTES) -> None:
        self._after = after
        self._left = at_most
        self._message = pdu.ListVersionsRes()

    def fail(self, error: str) -> bool:
        """The next filesystem's versions cannot be listed; whether there may be room for another."""
        self._message.Listed.add(Error=error[:_MOST_OF_ERROR] or "no reason given")
        self._after = 0
        self._left -= 4 * _MOST_OF_ERROR
        return self._left > 0

    def add(self, versions: Sequence[FilesystemVersion]) -> bool:
        """The next filesystem's, by createtxg; whether there may be room for another."""
        newer = [v for v in versions if v.createtxg > self._after] if self._after else versions
        fitting = self._fitting(newer)
        if fitting < len(newer) and self._message.Listed:
            return False
        self._after = 0
        taken = newer[:fitting]
        self._message.Listed.add(
            Names=_BETWEEN_NAMES.join([v.name for v in taken]),
            Guids=[v.guid for v in taken],
            CreateTXGs=[v.createtxg for v in taken],
            Creations=[v.creation for v in taken],
            Bookmarks=[n for n, v in enumerate(taken) if v.kind is VersionKind.BOOKMARK],
            More=fitting < len(newer),
            Held=[n for n, v in enumerate(taken) if v.userrefs],
        )
        return self._left > 0

    def encoded(self) -> bytes:
        return serialize(self._message)

    def _fitting(self, versions: Sequence[FilesystemVersion]) -> int:
        """How many fit; of those of one createtxg all or none, and at least the first."""
        left = self._left
        for index, version in enumerate(versions):
            left -= len(version.name) + _BYTES_BESIDE_NAME
            if left < 0 and index and version.createtxg != versions[index - 1].createtxg:
                self._left = 0
                return index
        self._left = left
        return len(versions)


def decode_listed(data: bytes, *, asked: int) -> list[Listed]:
    """What came of so many filesystems asked for: of at least one. RemoteProtocolError."""
    listed = parse_message(pdu.ListVersionsRes(), data).Listed
    if not 1 <= len(listed) <= asked:
        raise RemoteProtocolError(f"{len(listed)} filesystems came, and {asked} were asked for")
    if any(each.More for each in listed[:-1]):
        raise RemoteProtocolError("a filesystem before the last one came in part")
    try:
        return [_listed(each) for each in listed]
    except InvalidName as error:
        raise InvalidContent(str(error)) from None


def _listed(message: pdu.VersionsOf) -> Listed:
    if message.Error:
        return Listed(error=message.Error)
    names = message.Names.split(_BETWEEN_NAMES) if message.Guids else []
    columns = (names, message.Guids, message.CreateTXGs, message.Creations)
    if len({len(column) for column in columns}) != 1 or (not names and message.Names):
        raise InvalidContent("the columns of a listing are not of one length")
    versions = [
        FilesystemVersion(
            kind=VersionKind.SNAPSHOT,
            name=check_snapshot_name(name),
            guid=guid,
            createtxg=createtxg,
            creation=creation,
        )
        for name, guid, createtxg, creation in zip(*columns, strict=True)
    ]
    for index in message.Bookmarks:
        if index >= len(versions):
            raise InvalidContent("a listing calls something a bookmark that it does not have")
        versions[index] = replace(versions[index], kind=VersionKind.BOOKMARK)
    for index in message.Held:
        if index >= len(versions) or not versions[index].is_snapshot:
            raise InvalidContent("a listing calls something held that is no snapshot of it")
        # by how many holds, is nobody's business
        versions[index] = replace(versions[index], userrefs=1)
    if message.More and not versions:
        raise RemoteProtocolError("a listing that came in part has nothing in it")
    return Listed(versions=versions, more=message.More)
