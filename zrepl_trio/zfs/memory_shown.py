"""What `MemoryZfs` shows of its model: datasets, versions and properties, as zfs's listings have them. Pure."""

from __future__ import annotations

from zrepl_trio.emulate.model import Dataset as ModelDataset
from zrepl_trio.emulate.model import Snapshot, World
from zrepl_trio.emulate.values import dataset_value
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.memory_streams import MemoryReceive
from zrepl_trio.zfs.model import (
    Dataset,
    DatasetBrief,
    FilesystemVersion,
    Property,
    PropertySource,
    VersionKind,
    in_order,
)
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import is_placeholder

__all__ = ["brief_shown", "dataset_shown", "property_shown", "snapshot_property", "versions_shown"]


def _token(dataset: ModelDataset) -> str | None:
    partial = dataset.partial
    if partial is None or not partial.resumable:
        return None
    content = partial.content
    assert isinstance(content, MemoryReceive)
    return content.token()


def property_shown(world: World, dataset: ModelDataset, name: str) -> Property:
    """A property of a filesystem or volume, as `zfs get` has it."""
    value = dataset_value(world, dataset, name, token=_token)
    if value is None:
        return Property("-", PropertySource.NONE)
    return Property(value[0], PropertySource(value[1].split(" ")[0]))


def dataset_shown(world: World, dataset: ModelDataset) -> Dataset:
    """It as a listing of datasets has it."""
    mark = property_shown(world, dataset, argv.PLACEHOLDER)
    source_guid = property_shown(world, dataset, argv.SOURCE_GUID)
    return Dataset(
        path=DatasetPath(dataset.name),
        guid=dataset.guid,
        is_volume=dataset.is_volume,
        is_placeholder=is_placeholder(dataset.name, mark.value, mark.source),
        placeholder_value=mark.value if mark.source is PropertySource.LOCAL else "",
        resume_token=_token(dataset),
        source_guid=int(source_guid.value)
        if source_guid.value.isdecimal() and source_guid.source is PropertySource.LOCAL
        else None,
        encrypted=bool(dataset.local.get("encryption")),
        written=int(property_shown(world, dataset, "written").value),
    )


def brief_shown(world: World, dataset: ModelDataset) -> DatasetBrief:
    """It as a brief listing has it."""
    whole = dataset_shown(world, dataset)
    return DatasetBrief(
        path=whole.path,
        guid=whole.guid,
        is_placeholder=whole.is_placeholder,
        encrypted=whole.encrypted,
    )


def snapshot_property(snapshot: Snapshot, name: str) -> Property:
    """A property of a snapshot; only those that a listing asks for are known."""
    known = {
        "guid": snapshot.guid,
        "createtxg": snapshot.createtxg,
        "creation": snapshot.creation,
        "userrefs": len(snapshot.holds),
    }
    return Property(str(known.get(name, "-")), PropertySource.NONE)


def versions_shown(dataset: ModelDataset) -> list[FilesystemVersion]:
    """Its snapshots and bookmarks, as `in_order` has them."""
    found = [
        FilesystemVersion(
            kind=VersionKind.BOOKMARK,
            name=b.name,
            guid=b.guid,
            createtxg=b.createtxg,
            creation=b.creation,
        )
        for b in dataset.bookmarks.values()
    ]
    found += [
        FilesystemVersion(
            kind=VersionKind.SNAPSHOT,
            name=s.name,
            guid=s.guid,
            createtxg=s.createtxg,
            creation=s.creation,
            userrefs=len(s.holds),
        )
        for s in dataset.snapshots.values()
    ]
    return in_order(found)
