"""The messages of the wire, to and from the values the rest of the program works on.

This is where text from a peer becomes checked names: nothing behind these functions sees an
unchecked path, version name, resume token or time. `encode_*` and `decode_*` come in pairs; the
schema is `pdu.proto`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from zrepl_trio.endpoint.model import (
    Filesystem,
    GuaranteeKind,
    Protection,
    ReceiveRequest,
    SendRequest,
)
from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc import creation
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import MAX_NAME_BYTES, DatasetPath, InvalidName, check_snapshot_name

__all__ = [
    "MAX_RESUME_TOKEN",
    "InvalidContent",
    "decode_cursor",
    "decode_destroy",
    "decode_destroy_results",
    "decode_empty",
    "decode_filesystem",
    "decode_filesystems",
    "decode_ping",
    "decode_ping_echo",
    "decode_receive",
    "decode_send",
    "decode_send_completed",
    "decode_send_result",
    "decode_versions",
    "encode_cursor",
    "encode_destroy",
    "encode_destroy_results",
    "encode_empty",
    "encode_filesystem",
    "encode_filesystems",
    "encode_ping",
    "encode_ping_echo",
    "encode_receive",
    "encode_send",
    "encode_send_completed",
    "encode_send_result",
    "encode_versions",
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


# --- calls about filesystems and versions ---


def encode_empty() -> bytes:
    """A message without fields, of any type."""
    return b""


def decode_empty(data: bytes) -> None:
    """Accept a message of which nothing is used, if it is a protobuf at all."""
    _parse(pdu.ListFilesystemReq(), data)


def encode_filesystems(filesystems: Iterable[Filesystem]) -> bytes:
    """Answer of ListFilesystems."""
    return _serialize(
        pdu.ListFilesystemRes(
            Filesystems=[
                pdu.Filesystem(
                    Path=filesystem.path,
                    ResumeToken=filesystem.resume_token or "",
                    IsPlaceholder=filesystem.is_placeholder,
                    DatasetGuid=None
                    if filesystem.dataset_guid is None
                    else _uint64(filesystem.dataset_guid, "dataset guid"),
                )
                for filesystem in filesystems
            ]
        )
    )


def decode_filesystems(data: bytes) -> list[Filesystem]:
    """Answer of ListFilesystems, in the peer's order."""
    return [
        Filesystem(
            path=_path(filesystem.Path),
            resume_token=_token(filesystem.ResumeToken),
            is_placeholder=filesystem.IsPlaceholder,
            dataset_guid=filesystem.DatasetGuid if filesystem.HasField("DatasetGuid") else None,
        )
        for filesystem in _parse(pdu.ListFilesystemRes(), data).Filesystems
    ]


def encode_filesystem(filesystem: DatasetPath) -> bytes:
    """Request of ListFilesystemVersions and of ReplicationCursor: the same bytes."""
    return _serialize(pdu.ListFilesystemVersionsReq(Filesystem=filesystem))


def decode_filesystem(data: bytes) -> DatasetPath:
    """Request of ListFilesystemVersions and of ReplicationCursor."""
    return _path(_parse(pdu.ListFilesystemVersionsReq(), data).Filesystem)


def encode_versions(versions: Iterable[FilesystemVersion]) -> bytes:
    """Answer of ListFilesystemVersions."""
    return _serialize(
        pdu.ListFilesystemVersionsRes(Versions=[_version_pdu(version) for version in versions])
    )


def decode_versions(data: bytes) -> list[FilesystemVersion]:
    """Answer of ListFilesystemVersions, in the peer's order."""
    return [_version(v) for v in _parse(pdu.ListFilesystemVersionsRes(), data).Versions]


def encode_cursor(guid: int | None) -> bytes:
    """Answer of ReplicationCursor."""
    if guid is None:
        return _serialize(pdu.ReplicationCursorRes(Notexist=True))
    return _serialize(pdu.ReplicationCursorRes(Guid=_uint64(guid, "cursor guid")))


def decode_cursor(data: bytes) -> int | None:
    """Answer of ReplicationCursor."""
    answer = _parse(pdu.ReplicationCursorRes(), data)
    if answer.HasField("Guid"):
        return answer.Guid
    if not answer.Notexist:
        raise InvalidContent("answer about the replication cursor says neither guid nor 'none'")
    return None


def encode_destroy(filesystem: DatasetPath, snapshots: Iterable[FilesystemVersion]) -> bytes:
    """Request of DestroySnapshots."""
    return _serialize(
        pdu.DestroySnapshotsReq(
            Filesystem=filesystem, Snapshots=[_version_pdu(snapshot) for snapshot in snapshots]
        )
    )


def decode_destroy(data: bytes) -> tuple[DatasetPath, list[FilesystemVersion]]:
    """Request of DestroySnapshots; InvalidContent if one of them is no snapshot."""
    request = _parse(pdu.DestroySnapshotsReq(), data)
    filesystem = _path(request.Filesystem)
    versions = [_version_of(filesystem, version) for version in request.Snapshots]
    for version in versions:
        if not version.is_snapshot:
            raise InvalidContent(f'version "{version.relative}" is not a snapshot')
    return filesystem, versions


def encode_destroy_results(
    snapshots: Sequence[FilesystemVersion], results: Sequence[DestroyResult]
) -> bytes:
    """Answer of DestroySnapshots: one result for each of `snapshots`, in their order."""
    if [snapshot.name for snapshot in snapshots] != [result.name for result in results]:
        raise LocalProtocolError("results of destroying do not match the snapshots asked for")
    return _serialize(
        pdu.DestroySnapshotsRes(
            Results=[
                pdu.DestroySnapshotRes(Snapshot=_version_pdu(snapshot), Error=result.error)
                for snapshot, result in zip(snapshots, results, strict=True)
            ]
        )
    )


def decode_destroy_results(data: bytes, asked: Sequence[FilesystemVersion]) -> list[DestroyResult]:
    """Answer of DestroySnapshots; InvalidContent unless it is about the snapshots `asked`."""
    results = [
        DestroyResult(_version(result.Snapshot).name, result.Error)
        for result in _parse(pdu.DestroySnapshotsRes(), data).Results
    ]
    if [result.name for result in results] != [snapshot.name for snapshot in asked]:
        raise InvalidContent("answer about destroyed snapshots is not about those asked for")
    return results


# --- calls of a replication step ---


def encode_send(request: SendRequest) -> bytes:
    """Request of Send and SendDry."""
    return _serialize(_send_pdu(request))


def decode_send(data: bytes, *, dry: bool = False) -> SendRequest:
    """Request of Send; a `dry` one may lack the replication config, which it does not use."""
    return _send(_parse(pdu.SendReq(), data), needs_config=not dry)


def encode_send_completed(request: SendRequest) -> bytes:
    """Request of SendCompleted."""
    return _serialize(pdu.SendCompletedReq(OriginalReq=_send_pdu(request)))


def decode_send_completed(data: bytes) -> SendRequest:
    """Request of SendCompleted."""
    message = _parse(pdu.SendCompletedReq(), data)
    if not message.HasField("OriginalReq"):
        raise InvalidContent("SendCompleted without the request it completes")
    return _send(message.OriginalReq, needs_config=True)


def encode_send_result(*, used_resume_token: bool, expected_size: int | None) -> bytes:
    """Answer of Send and SendDry; 0 bytes expected stands for unknown."""
    return _serialize(
        pdu.SendRes(
            UsedResumeToken=used_resume_token,
            ExpectedSize=_uint64(expected_size or 0, "expected size"),
        )
    )


def decode_send_result(data: bytes) -> tuple[bool, int | None]:
    """Answer of Send and SendDry: whether the resume token was used, and the size if known."""
    answer = _parse(pdu.SendRes(), data)
    return answer.UsedResumeToken, answer.ExpectedSize or None


def encode_receive(request: ReceiveRequest) -> bytes:
    """Request of Receive."""
    return _serialize(
        pdu.ReceiveReq(
            Filesystem=request.filesystem,
            To=_version_pdu(request.to),
            ClearResumeToken=request.clear_resume_token,
            Config=_config_pdu(request.protection),
        )
    )


def decode_receive(data: bytes) -> ReceiveRequest:
    """Request of Receive; InvalidContent unless `To` is a snapshot."""
    message = _parse(pdu.ReceiveReq(), data)
    if not message.HasField("To"):
        raise InvalidContent(f"request to receive {message.Filesystem!r} without `To`")
    filesystem = _path(message.Filesystem)
    to = _version_of(filesystem, message.To)
    if not to.is_snapshot:
        raise InvalidContent(f"cannot receive {to.full(filesystem)}: not a snapshot")
    return ReceiveRequest(
        filesystem=filesystem,
        to=to,
        clear_resume_token=message.ClearResumeToken,
        protection=_protection(message),
    )


def encode_ping(message: str) -> bytes:
    """Request of Ping."""
    return _serialize(pdu.PingReq(Message=message))


def decode_ping(data: bytes) -> str:
    """Request of Ping."""
    return _parse(pdu.PingReq(), data).Message


def encode_ping_echo(message: str) -> bytes:
    """Answer of Ping."""
    return _serialize(pdu.PingRes(Echo=message))


def decode_ping_echo(data: bytes) -> str:
    """Answer of Ping."""
    return _parse(pdu.PingRes(), data).Echo


# --- parts of messages ---


def _parse(message: _M, data: bytes) -> _M:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise RemoteProtocolError(f"{len(data)} bytes are no {name}: {error}") from None
    return message


def _serialize(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _path(text: str) -> DatasetPath:
    try:
        return DatasetPath.parse(text)
    except InvalidName as error:
        raise InvalidContent(str(error)) from None


def _token(text: str) -> str | None:
    if not text:
        return None
    if len(text) > MAX_RESUME_TOKEN or not _TOKEN.fullmatch(text):
        raise InvalidContent(f"not a resume token ({len(text)} characters): {text[:60]!r}")
    return text


def _uint64(number: int, what: str) -> int:
    if not 0 <= number <= _MAX_GUID:
        raise LocalProtocolError(f"{what} {number} does not fit 64 bits")
    return number


def _version_pdu(version: FilesystemVersion) -> pdu.FilesystemVersion:
    return pdu.FilesystemVersion(
        Type=pdu.FilesystemVersion.Snapshot
        if version.is_snapshot
        else pdu.FilesystemVersion.Bookmark,
        Name=version.name,
        Guid=_uint64(version.guid, "guid"),
        CreateTXG=_uint64(version.createtxg, "createtxg"),
        Creation=creation.render(version.creation),
    )


def _version(message: pdu.FilesystemVersion) -> FilesystemVersion:
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


def _version_of(filesystem: DatasetPath, message: pdu.FilesystemVersion) -> FilesystemVersion:
    version = _version(message)
    if len(full := version.full(filesystem)) > MAX_NAME_BYTES:
        raise InvalidContent(f"{full[:80]!r}… is longer than {MAX_NAME_BYTES} bytes")
    return version


def _send_pdu(request: SendRequest) -> pdu.SendReq:
    return pdu.SendReq(
        Filesystem=request.filesystem,
        From=None if request.from_ is None else _version_pdu(request.from_),
        To=_version_pdu(request.to),
        ResumeToken=request.resume_token or "",
        Config=_config_pdu(request.protection),
    )


def _send(message: pdu.SendReq, *, needs_config: bool) -> SendRequest:
    filesystem = _path(message.Filesystem)
    if not message.HasField("To"):
        raise InvalidContent(f"request to send {filesystem} without `To`")
    return SendRequest(
        filesystem=filesystem,
        to=_version_of(filesystem, message.To),
        from_=_version_of(filesystem, message.From) if message.HasField("From") else None,
        resume_token=_token(message.ResumeToken),
        protection=_protection(message)
        if needs_config or message.HasField("Config")
        else Protection(),
    )


def _config_pdu(protection: Protection) -> pdu.ReplicationConfig:
    return pdu.ReplicationConfig(
        protection=pdu.ReplicationConfigProtection(
            Initial=_guarantee_pdu(protection.initial),
            Incremental=_guarantee_pdu(protection.incremental),
        )
    )


def _guarantee_pdu(kind: GuaranteeKind) -> pdu.ReplicationGuaranteeKind:
    match kind:
        case GuaranteeKind.RESUMABILITY:
            return pdu.GuaranteeResumability
        case GuaranteeKind.INCREMENTAL:
            return pdu.GuaranteeIncrementalReplication
        case GuaranteeKind.NOTHING:
            return pdu.GuaranteeNothing


def _protection(message: pdu.SendReq | pdu.ReceiveReq) -> Protection:
    if not message.HasField("Config") or not message.Config.HasField("protection"):
        raise InvalidContent(f"request about {message.Filesystem!r} without replication config")
    kinds = message.Config.protection
    try:
        return Protection(
            initial=GuaranteeKind(kinds.Initial), incremental=GuaranteeKind(kinds.Incremental)
        )
    except ValueError:
        raise InvalidContent(
            f"request about {message.Filesystem!r} with unknown guarantee kinds"
            f" {int(kinds.Initial)}, {int(kinds.Incremental)}"
        ) from None
