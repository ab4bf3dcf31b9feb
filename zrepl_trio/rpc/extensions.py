"""Messages of the calls that zrepl does not have. Pure.

A peer without them answers that it does not know the call (UNIMPLEMENTED).
"""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.endpoint.aside import is_stamp
from zrepl_trio.endpoint.model import Marks, ResolveRequest, SnapshotTimes, Way
from zrepl_trio.errors import Refused, RemoteError, RemoteProtocolError, ZreplError
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import (
    InvalidContent,
    parse_message,
    serialize,
    version_of,
    version_pdu,
    wire_path,
)
from zrepl_trio.zfs.model import Hold
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "MARKS_AT_ONCE",
    "PLACES_AT_ONCE",
    "decode_destroy_size",
    "decode_marks",
    "decode_marks_request",
    "decode_places",
    "decode_places_request",
    "decode_resolve",
    "decode_resolved",
    "encode_destroy_size",
    "encode_marks",
    "encode_marks_request",
    "encode_places",
    "encode_places_request",
    "encode_resolve",
    "encode_resolved",
]

PLACES_AT_ONCE = 1_000
"""Filesystems in one call `Places`: question and answer stay far below gRPC's 4 MiB."""

MARKS_AT_ONCE = 200
"""Filesystems in one call `Marks`: the passive side looks at one after the other."""

_MOST_OF_REASON = 500  # characters, of up to 4 bytes

_MOST_OLD = 2


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
    if message.Stamp and not is_stamp(message.Stamp):
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


def encode_marks_request(filesystems: Sequence[DatasetPath]) -> bytes:
    """Call `Marks`: what the job holds of these, `MARKS_AT_ONCE` at most."""
    return serialize(pdu.MarksReq(Filesystems=filesystems))


def decode_marks_request(data: bytes) -> list[DatasetPath]:
    """Raises RemoteProtocolError, or its InvalidContent for what makes no sense."""
    return _asked(parse_message(pdu.MarksReq(), data).Filesystems, at_most=MARKS_AT_ONCE)


def encode_marks(marks: Sequence[Marks | ZreplError]) -> bytes:
    """Answer to `Marks`, in the order of the question: the holds, with the snapshots that they are on."""
    jobs = [each.job for each in marks if isinstance(each, Marks)]
    return serialize(
        pdu.MarksRes(Job=jobs[0] if jobs else "", Marks=[_marks_pdu(each) for each in marks])
    )


def _marks_pdu(marks: Marks | ZreplError) -> pdu.MarksOf:
    if isinstance(marks, ZreplError):
        return pdu.MarksOf(Error=str(marks)[:_MOST_OF_REASON] or "no reason given")
    by_name = {version.name: version for version in marks.versions if version.is_snapshot}
    return pdu.MarksOf(
        Holds=[
            pdu.HoldOf(Version=version_pdu(by_name[hold.snapshot]), Tag=hold.tag)
            for hold in marks.holds or ()
            if hold.snapshot in by_name
        ]
    )


def decode_marks(data: bytes, *, asked: Sequence[DatasetPath]) -> list[Marks | RemoteError]:
    """Those of each that was asked for, or why they cannot be told. RemoteProtocolError."""
    answer = parse_message(pdu.MarksRes(), data)
    if len(answer.Marks) != len(asked):
        raise RemoteProtocolError(
            f"{len(answer.Marks)} marks came, and {len(asked)} were asked for"
        )
    found: list[Marks | RemoteError] = []
    for path, each in zip(asked, answer.Marks, strict=True):
        held = [(version_of(path, hold.Version), hold.Tag) for hold in each.Holds]
        versions = tuple(dict.fromkeys(version for version, _ in held))
        holds = tuple(Hold(path, version.name, tag) for version, tag in held)
        marks = Marks(job=answer.Job, versions=versions, holds=holds)
        found.append(RemoteError(each.Error) if each.Error else marks)
    return found


def encode_places_request(filesystems: Sequence[tuple[DatasetPath, SnapshotTimes]]) -> bytes:
    """Call `Places`: where these of the sender's filesystems go, `PLACES_AT_ONCE` at most, and what is known of
    the snapshots of each."""
    return serialize(
        pdu.PlacesReq(
            Filesystems=[path for path, _ in filesystems],
            Times=[
                pdu.TimesOf(Newest=times.newest, Replicated=times.replicated)
                for _, times in filesystems
            ],
        )
    )


def decode_places_request(data: bytes) -> dict[DatasetPath, SnapshotTimes]:
    """Nothing is known of any if no times came, as from our first versions. Raises RemoteProtocolError,
    or its InvalidContent for what makes no sense."""
    request = parse_message(pdu.PlacesReq(), data)
    filesystems = _asked(request.Filesystems, at_most=PLACES_AT_ONCE)
    if not request.Times:
        return dict.fromkeys(filesystems, SnapshotTimes())
    if len(filesystems) != len(request.Times):
        raise InvalidContent(f"{len(request.Times)} times came with {len(filesystems)} filesystems")
    return {
        filesystem: SnapshotTimes(
            newest=times.Newest if times.HasField("Newest") else None,
            replicated=times.Replicated if times.HasField("Replicated") else None,
        )
        for filesystem, times in zip(filesystems, request.Times, strict=True)
    }


def _asked(filesystems: Sequence[str], *, at_most: int) -> list[DatasetPath]:
    if len(filesystems) > at_most:
        raise InvalidContent(f"{len(filesystems)} filesystems are too many to ask for")
    return [wire_path(filesystem) for filesystem in filesystems]


def encode_places(places: Sequence[DatasetPath | Refused]) -> bytes:
    """Answer to `Places`, in the order of the question."""
    return serialize(
        pdu.PlacesRes(
            Places=[
                pdu.PlaceOf(Error=str(each)[:_MOST_OF_REASON] or "no reason given")
                if isinstance(each, Refused)
                else pdu.PlaceOf(Path=each)
                for each in places
            ]
        )
    )


def decode_places(data: bytes, *, asked: int) -> list[DatasetPath | Refused]:
    """One place, or why there is none, for each that was asked for. RemoteProtocolError."""
    places = parse_message(pdu.PlacesRes(), data).Places
    if len(places) != asked:
        raise RemoteProtocolError(f"{len(places)} places came, and {asked} were asked for")
    return [Refused(each.Error) if each.Error else wire_path(each.Path) for each in places]
