"""Pools, datasets, snapshots and bookmarks as plain objects; the rules are `model.World`'s.

File contents are opaque here: a holder puts into `Dataset.live` and `Snapshot.content` whatever stands
for them (dicts in memory, names of directories and manifests on disk).
"""

from __future__ import annotations

__all__ = ["Bookmark", "Dataset", "Partial", "Pool", "Snapshot", "Watched"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from zrepl_trio.zfs.model import FilesystemVersion


class Watched(dict):  # type: ignore[type-arg] # zfs commands start without typing's Generic
    """A dict whose changes can be noticed: `changes`, of all of them together, grows with each, and stays
    where a value is put in the place of its equal."""

    changes = 0

    def __setitem__(self, key: object, value: object) -> None:
        if key not in self or self[key] != value:
            Watched.changes += 1
            super().__setitem__(key, value)

    def __delitem__(self, key: object) -> None:
        Watched.changes += 1
        super().__delitem__(key)

    def pop(self, key: object, *default: object) -> object:
        Watched.changes += 1
        return super().pop(key, *default)

    def update(self, values: Mapping[str, object] = {}, /, **more: object) -> None:  # type: ignore[override]
        for key, value in {**values, **more}.items():
            self[key] = value

    def _unwatched(self, *_arguments: object) -> NoReturn:
        raise AssertionError("such a change would not be noticed")

    clear = popitem = setdefault = _unwatched


class Snapshot:
    """`dataset@name`; `holds` maps a tag to when it was put there."""

    __slots__ = (
        "content",
        "createtxg",
        "creation",
        "guid",
        "holds",
        "name",
        "props",
        "shown",
        "size",
    )

    def __init__(
        self, name: str, guid: int, createtxg: int, creation: int, content: object = None
    ) -> None:
        self.shown: FilesystemVersion | None = None
        """How it was listed last; None once its name or its holds have changed."""
        self.name = name
        self.guid = guid
        self.createtxg = createtxg
        self.creation = creation
        self.holds: dict[str, int] = {}
        self.props: dict[str, str] = {}
        self.content = content
        self.size = 0


class Bookmark:
    """`dataset#name`: a snapshot's identity, and in `content` what an increment from it needs."""

    __slots__ = ("content", "createtxg", "creation", "guid", "name")

    def __init__(
        self, name: str, guid: int, createtxg: int, creation: int, content: object = None
    ) -> None:
        self.name = name
        self.guid = guid
        self.createtxg = createtxg
        self.creation = creation
        self.content = content


class Partial:
    """A receive that stopped early or still runs; `begin` is its stream's begin record.

    Without `resumable` it goes when the receive ends; `created`: so does then the dataset, which was
    made for it.
    """

    __slots__ = ("begin", "content", "created", "resumable", "snapshot")

    def __init__(
        self,
        begin: dict[str, str],
        snapshot: str,
        *,
        resumable: bool,
        created: bool,
        content: object = None,
    ) -> None:
        self.begin = begin
        self.snapshot = snapshot
        self.resumable = resumable
        self.created = created
        self.content = content


class Dataset:
    """A filesystem or volume. A `local` value of None means: inherit in spite of `received`.

    `live` stands for the live files, `head` for the content that they were made from or last kept
    as, which outlives its snapshot.
    """

    __slots__ = (
        "bookmarks",
        "createtxg",
        "creation",
        "guid",
        "head",
        "is_volume",
        "key",
        "listed",
        "live",
        "local",
        "mounted",
        "name",
        "partial",
        "received",
        "size",
        "snapshots",
    )

    def __init__(
        self, name: str, guid: int, createtxg: int, creation: int, *, is_volume: bool = False
    ) -> None:
        self.name = name
        self.guid = guid
        self.createtxg = createtxg
        self.creation = creation
        self.is_volume = is_volume
        self.local: dict[str, str | None] = Watched()
        self.received: dict[str, str] = Watched()
        self.snapshots: dict[str, Snapshot] = {}
        self.bookmarks: dict[str, Bookmark] = {}
        self.listed: list[FilesystemVersion] | None = None
        """Its snapshots and bookmarks as they were listed last; None once any has changed."""
        self.partial: Partial | None = None
        self.live: object = None
        self.mounted = False
        self.head: object = None
        self.size = 0
        self.key = f"{guid:016x}"

    @property
    def newest(self) -> Snapshot | None:
        """The latest snapshot."""
        return next(reversed(self.snapshots.values()), None)

    def snapshot_by_guid(self, guid: int) -> Snapshot | None:
        """The snapshot with that guid."""
        for snapshot in reversed(self.snapshots.values()):
            if snapshot.guid == guid:
                return snapshot
        return None


class Pool:
    """A pool; `txg` grows with every change, `capacity` bounds what its datasets may hold."""

    __slots__ = ("capacity", "creation", "datasets", "guid", "name", "root_mountpoint", "txg")

    def __init__(
        self, name: str, guid: int, creation: int, *, capacity: int, root_mountpoint: str
    ) -> None:
        self.name = name
        self.guid = guid
        self.creation = creation
        self.capacity = capacity
        self.root_mountpoint = root_mountpoint
        self.txg = 4
        self.datasets: dict[str, Dataset] = Watched()
