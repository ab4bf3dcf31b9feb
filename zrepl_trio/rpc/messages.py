"""The messages of the wire, to and from the values the rest of the program works on.

This is where text from a peer becomes checked names: nothing behind these functions sees an
unchecked path, version name, resume token or time. `encode_*` and `decode_*` come in pairs; the
schema is `pdu.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zrepl_trio.endpoint.model import (
    MAX_RANGE,
    GuaranteeKind,
    Protection,
    ReceiveRequest,
    SendRequest,
)
from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import (
    InvalidContent,
    parse_message,
    serialize,
    token_from,
    uint64,
    version_from,
    version_of,
    version_pdu,
    wire_path,
)
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "InvalidContent",
    "decode_cursor",
    "decode_destroy",
    "decode_destroy_results",
    "decode_empty",
    "decode_filesystem",
    "decode_ping",
    "decode_ping_echo",
    "decode_range_sizes",
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
    "encode_ping",
    "encode_ping_echo",
    "encode_receive",
    "encode_send",
    "encode_send_completed",
    "encode_send_result",
    "encode_versions",
]


# --- calls about filesystems and versions ---


def encode_empty() -> bytes:
    """A message without fields, of any type."""
    return b""


def decode_empty(data: bytes) -> None:
    """Accept a message of which nothing is used, if it is a protobuf at all."""
    parse_message(pdu.ListFilesystemReq(), data)


def encode_filesystem(filesystem: DatasetPath) -> bytes:
    """Request of ListFilesystemVersions and of ReplicationCursor: the same bytes."""
    return serialize(pdu.ListFilesystemVersionsReq(Filesystem=filesystem))


def decode_filesystem(data: bytes) -> DatasetPath:
    """Request of ListFilesystemVersions and of ReplicationCursor."""
    return wire_path(parse_message(pdu.ListFilesystemVersionsReq(), data).Filesystem)


def encode_versions(versions: Iterable[FilesystemVersion]) -> bytes:
    """Answer of ListFilesystemVersions."""
    return serialize(
        pdu.ListFilesystemVersionsRes(Versions=[version_pdu(version) for version in versions])
    )


def decode_versions(data: bytes) -> list[FilesystemVersion]:
    """Answer of ListFilesystemVersions, in the peer's order."""
    return [version_from(v) for v in parse_message(pdu.ListFilesystemVersionsRes(), data).Versions]


def encode_cursor(guid: int | None) -> bytes:
    """Answer of ReplicationCursor."""
    if guid is None:
        return serialize(pdu.ReplicationCursorRes(Notexist=True))
    return serialize(pdu.ReplicationCursorRes(Guid=uint64(guid, "cursor guid")))


def decode_cursor(data: bytes) -> int | None:
    """Answer of ReplicationCursor."""
    answer = parse_message(pdu.ReplicationCursorRes(), data)
    if answer.HasField("Guid"):
        return answer.Guid
    if not answer.Notexist:
        raise InvalidContent("answer about the replication cursor says neither guid nor 'none'")
    return None


def encode_destroy(filesystem: DatasetPath, snapshots: Iterable[FilesystemVersion]) -> bytes:
    """Request of DestroySnapshots."""
    return serialize(
        pdu.DestroySnapshotsReq(
            Filesystem=filesystem, Snapshots=[version_pdu(snapshot) for snapshot in snapshots]
        )
    )


def decode_destroy(data: bytes) -> tuple[DatasetPath, list[FilesystemVersion]]:
    """Request of DestroySnapshots; InvalidContent if one of them is no snapshot."""
    request = parse_message(pdu.DestroySnapshotsReq(), data)
    filesystem = wire_path(request.Filesystem)
    versions = [version_of(filesystem, version) for version in request.Snapshots]
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
    return serialize(
        pdu.DestroySnapshotsRes(
            Results=[
                pdu.DestroySnapshotRes(Snapshot=version_pdu(snapshot), Error=result.error)
                for snapshot, result in zip(snapshots, results, strict=True)
            ]
        )
    )


def decode_destroy_results(data: bytes, asked: Sequence[FilesystemVersion]) -> list[DestroyResult]:
    """Answer of DestroySnapshots; InvalidContent unless it is about the snapshots `asked`."""
    results = [
        DestroyResult(version_from(result.Snapshot).name, result.Error)
        for result in parse_message(pdu.DestroySnapshotsRes(), data).Results
    ]
    if [result.name for result in results] != [snapshot.name for snapshot in asked]:
        raise InvalidContent("answer about destroyed snapshots is not about those asked for")
    return results


# --- calls of a replication step ---


def encode_send(request: SendRequest) -> bytes:
    """Request of Send and SendDry."""
    return serialize(_send_pdu(request))


def decode_send(data: bytes, *, dry: bool = False) -> SendRequest:
    """Request of Send; a `dry` one may lack the replication config, which it does not use."""
    return _send(parse_message(pdu.SendReq(), data), needs_config=not dry)


def encode_send_completed(request: SendRequest) -> bytes:
    """Request of SendCompleted."""
    return serialize(pdu.SendCompletedReq(OriginalReq=_send_pdu(request)))


def decode_send_completed(data: bytes) -> SendRequest:
    """Request of SendCompleted."""
    message = parse_message(pdu.SendCompletedReq(), data)
    if not message.HasField("OriginalReq"):
        raise InvalidContent("SendCompleted without the request it completes")
    return _send(message.OriginalReq, needs_config=True)


def encode_send_result(
    *, used_resume_token: bool, expected_size: int | None, sizes: Sequence[int | None] = ()
) -> bytes:
    """Answer of Send and SendDry; 0 bytes expected stands for unknown. `sizes` are those of the
    snapshots of a range."""
    return serialize(
        pdu.SendRes(
            UsedResumeToken=used_resume_token,
            ExpectedSize=uint64(expected_size or 0, "expected size"),
            Sizes=[uint64(size or 0, "size of a snapshot") for size in sizes],
        )
    )


def decode_send_result(data: bytes) -> tuple[bool, int | None]:
    """Answer of Send and SendDry: whether the resume token was used, and the size if known."""
    answer = parse_message(pdu.SendRes(), data)
    return answer.UsedResumeToken, answer.ExpectedSize or None


def decode_range_sizes(data: bytes, asked: SendRequest) -> list[int | None]:
    """Answer of SendDry for a range; RemoteProtocolError unless each of its snapshots has one."""
    sizes = parse_message(pdu.SendRes(), data).Sizes
    if len(sizes) != len(asked.between) + 1:
        raise RemoteProtocolError(
            f"{asked.filesystem}: sizes of {len(sizes)} snapshots came, and {len(asked.between) + 1} "
            "were asked for"
        )
    return [size or None for size in sizes]


def encode_receive(request: ReceiveRequest) -> bytes:
    """Request of Receive."""
    return serialize(
        pdu.ReceiveReq(
            Filesystem=request.filesystem,
            To=version_pdu(request.to),
            ClearResumeToken=request.clear_resume_token,
            Config=_config_pdu(request.protection),
            Between=[version_pdu(version) for version in request.between],
            SourceGuid=None
            if request.source_guid is None
            else uint64(request.source_guid, "dataset guid"),
        )
    )


def decode_receive(data: bytes) -> ReceiveRequest:
    """Request of Receive; InvalidContent unless `To` is a snapshot."""
    message = parse_message(pdu.ReceiveReq(), data)
    if not message.HasField("To"):
        raise InvalidContent(f"request to receive {message.Filesystem!r} without `To`")
    filesystem = wire_path(message.Filesystem)
    to = version_of(filesystem, message.To)
    if not to.is_snapshot:
        raise InvalidContent(f"cannot receive {to.full(filesystem)}: not a snapshot")
    return ReceiveRequest(
        filesystem=filesystem,
        to=to,
        clear_resume_token=message.ClearResumeToken,
        source_guid=message.SourceGuid if message.HasField("SourceGuid") else None,
        between=_between(filesystem, message),
        protection=_protection(message),
    )


def encode_ping(message: str) -> bytes:
    """Request of Ping."""
    return serialize(pdu.PingReq(Message=message))


def decode_ping(data: bytes) -> str:
    """Request of Ping."""
    return parse_message(pdu.PingReq(), data).Message


def encode_ping_echo(message: str) -> bytes:
    """Answer of Ping."""
    return serialize(pdu.PingRes(Echo=message))


def decode_ping_echo(data: bytes) -> str:
    """Answer of Ping."""
    return parse_message(pdu.PingRes(), data).Echo


# --- parts of messages ---


def _send_pdu(request: SendRequest) -> pdu.SendReq:
    return pdu.SendReq(
        Filesystem=request.filesystem,
        From=None if request.from_ is None else version_pdu(request.from_),
        To=version_pdu(request.to),
        ResumeToken=request.resume_token or "",
        Config=_config_pdu(request.protection),
        Between=[version_pdu(version) for version in request.between],
    )


def _send(message: pdu.SendReq, *, needs_config: bool) -> SendRequest:
    filesystem = wire_path(message.Filesystem)
    if not message.HasField("To"):
        raise InvalidContent(f"request to send {filesystem} without `To`")
    return SendRequest(
        filesystem=filesystem,
        to=version_of(filesystem, message.To),
        from_=version_of(filesystem, message.From) if message.HasField("From") else None,
        between=_between(filesystem, message),
        resume_token=token_from(message.ResumeToken),
        protection=_protection(message)
        if needs_config or message.HasField("Config")
        else Protection(),
    )


def _between(
    filesystem: DatasetPath, message: pdu.SendReq | pdu.ReceiveReq
) -> tuple[FilesystemVersion, ...]:
    if len(message.Between) >= MAX_RANGE:
        raise InvalidContent(f"a range with {len(message.Between)} snapshots is too long")
    between = tuple(version_of(filesystem, version) for version in message.Between)
    for version in between:
        if not version.is_snapshot:
            raise InvalidContent(f"a range with {version.full(filesystem)}: not a snapshot")
    return between


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
