"""The call ListFilesystems: its messages. Pure.

zrepl answers with all filesystems in one message, of which gRPC takes 4 MiB: some 50,000 names. A
client of ours asks in parts, by a field that a zrepl skips, as it skips `More` in our answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.errors import RemoteProtocolError
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import parse_message, serialize, token_from, uint64, wire_path
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "MOST_FILESYSTEMS",
    "Part",
    "decode_filesystems",
    "decode_request",
    "encode_all",
    "encode_part",
    "encode_request",
]

MOST_FILESYSTEMS = 1_000_000
"""More are taken for a peer that never ends."""

_PART_BYTES = 3 << 20
"""Well below gRPC's 4 MiB."""


@dataclass(frozen=True, slots=True)
class Part:
    """What came with one answer; `more` are to be asked for."""

    filesystems: list[Filesystem]
    more: bool


def encode_request(after: DatasetPath | None = None) -> bytes:
    """Ask for a part: the first, or the one behind that filesystem."""
    return serialize(pdu.ListFilesystemReq(After=after or ""))


def decode_request(data: bytes) -> DatasetPath | str | None:
    """The filesystem that the part is to be behind, empty for the first part; None when the client wants
    all at once, as a zrepl does. RemoteProtocolError."""
    message = parse_message(pdu.ListFilesystemReq(), data)
    if not message.HasField("After"):
        return None
    return wire_path(message.After) if message.After else ""


def encode_all(filesystems: Sequence[Filesystem]) -> bytes:
    """The whole answer."""
    return serialize(pdu.ListFilesystemRes(Filesystems=map(_message, filesystems)))


def encode_part(
    filesystems: Sequence[Filesystem], after: DatasetPath | str, *, at_most: int = _PART_BYTES
) -> bytes:
    """What comes behind `after` (empty: all), parents first, as far as it fits; at least one. The order
    is that of the names' components, so that nothing is left out if others come or go meanwhile."""
    behind = DatasetPath(after).components if after else ()
    answer = pdu.ListFilesystemRes()
    left = at_most
    for each in sorted(filesystems, key=lambda filesystem: filesystem.path.components):
        if behind and each.path.components <= behind:
            continue
        message = _message(each)
        left -= message.ByteSize() + _BYTES_AROUND
        if left < 0 and answer.Filesystems:
            answer.More = True
            break
        answer.Filesystems.append(message)
    return serialize(answer)


_BYTES_AROUND = 6  # a field's tag and length


def decode_filesystems(data: bytes) -> Part:
    """An answer, in the peer's order. RemoteProtocolError."""
    message = parse_message(pdu.ListFilesystemRes(), data)
    if message.More and not message.Filesystems:
        raise RemoteProtocolError("a listing of filesystems that came in part has nothing in it")
    return Part([_filesystem(each) for each in message.Filesystems], message.More)


def _message(filesystem: Filesystem) -> pdu.Filesystem:
    return pdu.Filesystem(
        Path=filesystem.path,
        ResumeToken=filesystem.resume_token or "",
        IsPlaceholder=filesystem.is_placeholder,
        DatasetGuid=None
        if filesystem.dataset_guid is None
        else uint64(filesystem.dataset_guid, "dataset guid"),
        Written=None if filesystem.written is None else uint64(filesystem.written, "written"),
    )


def _filesystem(message: pdu.Filesystem) -> Filesystem:
    return Filesystem(
        path=wire_path(message.Path),
        resume_token=token_from(message.ResumeToken),
        is_placeholder=message.IsPlaceholder,
        dataset_guid=message.DatasetGuid if message.HasField("DatasetGuid") else None,
        written=message.Written if message.HasField("Written") else None,
    )
