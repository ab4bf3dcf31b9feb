"""What `MemoryZfs` shows of its model: datasets, versions and properties, as zfs's listings have them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zrepl_trio.emulate.model import Dataset as ModelDataset
from zrepl_trio.emulate.model import Snapshot, World
from zrepl_trio.emulate.objects import Watched
from zrepl_trio.emulate.properties import NATIVE, is_user
from zrepl_trio.emulate.values import dataset_value
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.memory_streams import MemoryReceive
from zrepl_trio.zfs.model import (
    Dataset,
    DatasetBrief,
    FilesystemVersion,
    Property,
    PropertySource,
    ResumeToken,
    VersionKind,
    in_order,
)
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import is_placeholder

__all__ = [
    "Shown",
    "property_shown",
    "snapshot_properties",
    "token_shown",
    "versions_shown",
]


def _token(dataset: ModelDataset) -> str | None:
    partial = dataset.partial
    if partial is None or not partial.resumable:
        return None
    content = partial.content
    assert isinstance(content, MemoryReceive)
    return content.token()


_STEADY = frozenset(
    {*NATIVE, "encryption", "encryptionroot", "guid", "createtxg", "creation", "origin", "userrefs"}
)
"""Of a dataset: these change with its settings or its place, or never."""

_SOURCES = {source.value: source for source in PropertySource}
_NONE = Property("-", PropertySource.NONE)


class Shown:
    """Properties that were shown, as long as no property of any dataset, and no dataset's place, has
    changed since: a listing asks for dozens, mostly of parents, each time anew."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._at = -1
        self._known: dict[tuple[str, str], Property] = {}
        self._sets: dict[tuple[str, tuple[str, ...]], dict[str, Property]] = {}
        self._datasets: dict[str, Dataset] = {}
        self._briefs: dict[str, DatasetBrief] = {}

    def dataset(self, dataset: ModelDataset) -> Dataset:
        """It as a listing of datasets has it."""
        if Watched.changes != self._at:
            self._forget()
        found = self._datasets.get(dataset.name)
        token, written = _token(dataset), self._world.sizes(dataset)[1]
        # all else is steady
        if found is None or found.written != written or found.resume_token != token:
            found = self._datasets[dataset.name] = _dataset_shown(self, dataset, token, written)
        return found

    def brief(self, dataset: ModelDataset) -> DatasetBrief:
        """It as a brief listing has it."""
        if Watched.changes != self._at:
            self._forget()
        found = self._briefs.get(dataset.name)
        if found is None:
            whole = _dataset_shown(self, dataset, None, 0)
            found = self._briefs[dataset.name] = DatasetBrief(
                path=whole.path,
                guid=whole.guid,
                is_placeholder=whole.is_placeholder,
                encrypted=whole.encrypted,
            )
        return found

    def property(self, dataset: ModelDataset, name: str) -> Property:
        """A property of a filesystem or volume, as `zfs get` has it."""
        if Watched.changes != self._at:
            self._forget()
        key = (dataset.name, name)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = property_shown(self._world, dataset, name)
            if not _is_steady(name):
                del self._known[key]
        return found

    def properties(self, dataset: ModelDataset, names: Sequence[str]) -> dict[str, Property]:
        """Several of them."""
        if Watched.changes != self._at:
            self._forget()
        key = (dataset.name, tuple(names))
        found = self._sets.get(key)
        if found is None:
            found = {name: self.property(dataset, name) for name in names}
            if all(map(_is_steady, names)):
                self._sets[key] = found
        return dict(found)

    def _forget(self) -> None:
        self._known.clear()
        self._sets.clear()
        self._datasets.clear()
        self._briefs.clear()
        self._at = Watched.changes


def _is_steady(name: str) -> bool:
    return is_user(name) or name in _STEADY


def property_shown(world: World, dataset: ModelDataset, name: str) -> Property:
    """A property of a filesystem or volume, as `zfs get` has it."""
    value = dataset_value(world, dataset, name, token=_token)
    if value is None:
        return _NONE
    return Property(value[0], _SOURCES[value[1].partition(" ")[0]])


def _dataset_shown(shown: Shown, dataset: ModelDataset, token: str | None, written: int) -> Dataset:
    mark = shown.property(dataset, argv.PLACEHOLDER)
    source_guid = shown.property(dataset, argv.SOURCE_GUID)
    return Dataset(
        path=DatasetPath(dataset.name),
        guid=dataset.guid,
        is_volume=dataset.is_volume,
        is_placeholder=is_placeholder(dataset.name, mark.value, mark.source),
        placeholder_value=mark.value if mark.source is PropertySource.LOCAL else "",
        resume_token=token,
        source_guid=int(source_guid.value)
        if source_guid.value.isdecimal() and source_guid.source is PropertySource.LOCAL
        else None,
        encrypted=bool(dataset.local.get("encryption")),
        written=written,
    )


def snapshot_properties(snapshot: Snapshot, names: Sequence[str]) -> dict[str, Property]:
    """Properties of a snapshot; only those that a listing asks for are known."""
    found = dict.fromkeys(names, _NONE)
    for name, value in (
        ("guid", snapshot.guid),
        ("createtxg", snapshot.createtxg),
        ("creation", snapshot.creation),
        ("userrefs", len(snapshot.holds)),
    ):
        if name in found:
            found[name] = Property(str(value), PropertySource.NONE)
    return found


def versions_shown(dataset: ModelDataset, *, keep: bool = False) -> list[FilesystemVersion]:
    """Its snapshots and bookmarks, as `in_order` has them; with `keep`, made once for many listings."""
    if not keep:
        return _listed(dataset, [_version_shown(each) for each in dataset.snapshots.values()])
    if dataset.listed is None:
        snapshots = [each.shown or _kept(each) for each in dataset.snapshots.values()]
        dataset.listed = _listed(dataset, snapshots)
    return dataset.listed.copy()


def _listed(dataset: ModelDataset, snapshots: list[FilesystemVersion]) -> list[FilesystemVersion]:
    bookmarks = [
        FilesystemVersion(
            kind=VersionKind.BOOKMARK,
            name=b.name,
            guid=b.guid,
            createtxg=b.createtxg,
            creation=b.creation,
        )
        for b in dataset.bookmarks.values()
    ]
    # a dataset's snapshots are kept as they came
    return in_order(bookmarks + snapshots) if bookmarks else snapshots


def _kept(snapshot: Snapshot) -> FilesystemVersion:
    snapshot.shown = made = _version_shown(snapshot)
    return made


def _version_shown(snapshot: Snapshot) -> FilesystemVersion:
    return FilesystemVersion(
        kind=VersionKind.SNAPSHOT,
        name=snapshot.name,
        guid=snapshot.guid,
        createtxg=snapshot.createtxg,
        creation=snapshot.creation,
        userrefs=len(snapshot.holds),
    )


def token_shown(fields: Mapping[str, str]) -> ResumeToken:
    """A resume token's fields as `zfs send -nvt` has them."""
    return ResumeToken(
        to_name=fields["toname"],
        to_guid=int(fields["toguid"]),
        from_guid=int(fields["fromguid"]) if "fromguid" in fields else None,
        bytes_received=int(fields["bytes"]),
        raw_ok="rawok" in fields,
        compress_ok="compressok" in fields,
        embed_ok="embedok" in fields,
        large_block_ok="largeblockok" in fields,
        saved_ok="savedok" in fields,
    )
