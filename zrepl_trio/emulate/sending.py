"""What may be sent: zfs's rules, without the data.

Pure, on `model.World`.
"""

from __future__ import annotations

from zrepl_trio.emulate import names
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Bookmark, Dataset, Snapshot, World
from zrepl_trio.emulate.stream import decode_token, encode_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Outgoing", "packed", "resume_token", "resuming", "sending"]

_FLAG_KEYS = ("rawok", "compressok", "embedok", "largeblockok", "savedok")


class Outgoing:
    """A stream to be made: from `base` (None: full) to `to`; `begin` are its begin fields."""

    __slots__ = ("base", "begin", "dataset", "to")

    def __init__(
        self,
        dataset: Dataset,
        to: Snapshot,
        base: Snapshot | Bookmark | None,
        begin: dict[str, str],
    ) -> None:
        self.dataset = dataset
        self.to = to
        self.base = base
        self.begin = begin

    @property
    def offset(self) -> int:
        """Where in the body the stream sets in."""
        return int(self.begin["offset"])


_OF_ENCRYPTION = frozenset({"encryption", "encryptionroot", "keyformat", "keylocation"})


def sending(
    world: World,
    target: str,
    source: str | None,
    *,
    flags: Mapping[str, bool],
    properties: bool = False,
) -> Outgoing:
    """`zfs send [-i SOURCE] TARGET`; `flags` are the `*ok` words of a token."""
    dataset_name, _, name = names.split_version(target)
    dataset = world.get(dataset_name)
    to = dataset.snapshots.get(name) if dataset is not None else None
    if dataset is None or to is None:
        raise Fault(f"cannot open '{target}': dataset does not exist")
    base: Snapshot | Bookmark | None = None
    if source is not None:
        if source[:1] in {"@", "#"}:
            source = dataset_name + source
        base = _incremental_source(dataset, target, to, source)
    begin = {
        "toname": target,
        "toguid": str(to.guid),
        "creation": str(to.creation),
        "type": "volume" if dataset.is_volume else "filesystem",
        "offset": "0",
    }
    if base is not None:
        begin["fromguid"] = str(base.guid)
    begin.update({key: "1" for key in _FLAG_KEYS if flags.get(key)})
    if dataset.local.get("encryption"):
        if flags.get("rawok"):
            begin["encrypted"] = "1"
        elif properties:
            raise Fault(
                f"cannot send {target}: encrypted dataset {dataset_name} may not be sent with"
                f" properties without the raw flag\nwarning: cannot send '{target}': backup failed"
            )
    if dataset.is_volume:
        begin["volsize"] = world.value(dataset, "volsize")[0]
    if properties:
        for prop in sorted({*dataset.local, *dataset.received}):
            value, _ = world.value(dataset, prop)
            if prop not in _OF_ENCRYPTION:
                begin[f"prop.{prop}"] = value
        for prop, value in to.props.items():
            begin[f"snapprop.{prop}"] = value
    return Outgoing(dataset, to, base, begin)


def packed(
    world: World, target: str, source: str, *, flags: Mapping[str, bool], properties: bool = False
) -> list[Outgoing]:
    """`zfs send -I SOURCE TARGET`: one stream for each snapshot after SOURCE up to TARGET."""
    dataset_name = names.split_version(target)[0]
    if source[:1] in {"@", "#"}:
        source = dataset_name + source
    of, sign, first = names.split_version(source)
    if sign == "#":
        raise Fault("Error: multiple snapshots cannot be sent from a bookmark.")
    dataset = world.get(dataset_name)
    for version in (target, source):
        name = names.split_version(version)[2]
        if of != dataset_name or dataset is None or name not in dataset.snapshots:
            raise Fault(f"cannot open '{version}': dataset does not exist")
    assert dataset is not None
    start = dataset.snapshots[first].createtxg
    end = dataset.snapshots[names.split_version(target)[2]].createtxg
    if start >= end:
        raise Fault(
            f"WARNING: could not send {target}:\nincremental source ({source}) does not exist"
        )
    streams = []
    for snap in dataset.snapshots.values():
        if start < snap.createtxg <= end:
            made = sending(
                world,
                f"{dataset_name}@{snap.name}",
                f"@{first}",
                flags=flags,
                properties=properties,
            )
            streams.append(made)
            first = snap.name
    return streams


def _incremental_source(
    dataset: Dataset, target: str, to: Snapshot, source: str
) -> Snapshot | Bookmark:
    source_dataset, sign, name = names.split_version(source)
    cannot = f"warning: cannot send '{target}'"
    if source_dataset != dataset.name:
        raise Fault(f"{cannot}: not an earlier snapshot from the same fs")
    base = (dataset.snapshots if sign == "@" else dataset.bookmarks).get(name)
    if base is None:
        raise Fault(
            f"cannot open '{source}': dataset does not exist"
            if sign == "@"
            else f"{cannot}: incremental source ({source}) does not exist"
        )
    if base.createtxg >= to.createtxg:
        raise Fault(f"{cannot}: not an earlier snapshot from the same fs")
    return base


def resuming(world: World, token: str) -> Outgoing:
    """`zfs send -t TOKEN`."""
    fields = decode_token(token)
    target = fields["toname"]
    found = _holder(world, target, int(fields["toguid"]))
    if found is None:
        dataset_name, _, name = names.split_version(target)
        named = world.get(dataset_name)
        raise Fault(
            f"cannot resume send: '{target}' is no longer the same snapshot used in the initial send"
            if named is not None and name in named.snapshots
            else f"cannot resume send: '{target}' used in the initial send no longer exists",
            255,
        )
    dataset, to = found
    base: Snapshot | Bookmark | None = None
    if "fromguid" in fields:
        guid = int(fields["fromguid"])
        base = dataset.snapshot_by_guid(guid) or next(
            (b for b in dataset.bookmarks.values() if b.guid == guid), None
        )
        if base is None:
            raise Fault(f"cannot resume send: incremental source {guid:#x} no longer exists", 255)
    begin = {
        "toname": f"{dataset.name}@{to.name}",
        "toguid": str(to.guid),
        "creation": str(to.creation),
        "type": "volume" if dataset.is_volume else "filesystem",
        "offset": fields["offset"],
        # its own mark, since a state with nothing in it yet also sets in at 0
        "resuming": "1",
    }
    if base is not None:
        begin["fromguid"] = str(base.guid)
    begin.update({key: "1" for key in (*_FLAG_KEYS, "encrypted") if key in fields})
    if dataset.is_volume:
        begin["volsize"] = world.value(dataset, "volsize")[0]
    return Outgoing(dataset, to, base, begin)


def _holder(world: World, target: str, guid: int) -> tuple[Dataset, Snapshot] | None:
    """The snapshot with that guid, also when it or its dataset was renamed since: as zfs looks for
    it, under its old name first, then in all of the pool."""
    named = world.get(names.split_version(target)[0])
    for dataset in (*((named,) if named else ()), *world.below(names.pool_name(target))):
        if (snap := dataset.snapshot_by_guid(guid)) is not None:
            return dataset, snap
    return None


def resume_token(begin: Mapping[str, str], *, offset: int, received: int) -> str:
    """The token of a partly received stream: `received` bytes of data, up to body `offset`."""
    fields = {
        "object": "0x1",
        "offset": str(offset),
        "bytes": str(received),
        "toguid": begin["toguid"],
        "toname": begin["toname"],
    }
    if "fromguid" in begin:
        fields["fromguid"] = begin["fromguid"]
    fields.update({key: "1" for key in (*_FLAG_KEYS, "encrypted") if key in begin})
    return encode_token(fields)
