"""Pools kept in a directory, safe for concurrent commands and for kill -9 at any moment.

    DIR/POOL/...                  mounted filesystems, plain directories
    DIR/dev/zvol/POOL/...         volumes, plain files
    DIR/.emulated-zfs/lock        held exclusively by whoever changes anything
    DIR/.emulated-zfs/pools/POOL  a pool's metadata; replaced by rename, so read without a lock
    DIR/.emulated-zfs/data/KEY/   a dataset's data: manifests `m.*`, blobs `b/*`, a receive `recv/`
    DIR/.emulated-zfs/marks/      what a killed command would leave to mend; see `recovery`

Order makes it safe: data is written before the metadata that refers to it, and removed after.
"""

from __future__ import annotations

import fcntl
import os
import time

from zrepl_trio.emulate import receiving, recovery, trees
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Bookmark, Dataset, Pool, Snapshot, World
from zrepl_trio.emulate.state import decode_pool, dumps, encode_pool, loads
from zrepl_trio.emulate.stream import Entry
from zrepl_trio.emulate.trees import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Change", "Store"]

PRIVATE = ".emulated-zfs"


def _bits(count: int) -> int:
    return int.from_bytes(os.urandom((count + 7) // 8), "big") >> (-count % 8)


class Store:
    """The pools of one directory."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self.private = f"{self.directory}/{PRIVATE}"
        self._pools = f"{self.private}/pools"
        self.known_live: dict[str, Manifest] = {}
        self._blobs_of: dict[str, frozenset[object]] = {}
        self._saved: dict[str, tuple[tuple[int, ...], Pool]] = {}
        os.makedirs(self._pools, exist_ok=True)
        os.makedirs(f"{self.private}/data", exist_ok=True)
        os.makedirs(f"{self.private}/marks", exist_ok=True)

    # -- metadata --------------------------------------------------------------------------

    def load(self, *, to_change: bool = False) -> World:
        """All pools as they are now. `to_change`, under the lock: as this object last saved them, as far as
        nobody else has since."""
        world = World(bits=_bits, clock=lambda: int(time.time()))
        world.live_size = self.live_size
        world.altroot = self.directory
        for name in sorted(os.listdir(self._pools)):
            if name.startswith("."):
                continue
            path = f"{self._pools}/{name}"
            if to_change and name in self._saved and self._saved[name][0] == _identity(path):
                world.pools[name] = self._saved[name][1]
                continue
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                continue
            world.pools[name] = decode_pool(data, path)
        return world

    def forget(self) -> None:
        """A change was given up half done."""
        self._saved.clear()

    def change(self) -> Change:
        """`with store.change() as world:` alone; what was done is kept unless it raised."""
        return Change(self)

    def reading(self) -> Change:
        """`with store.reading() as world:` with the lock held, and nothing kept."""
        return Change(self, keep=False)

    def settled(self) -> World:
        """All pools, without what a killed receive left; takes the lock only if there is some."""
        world = self.load()
        if any(receiving.is_abandoned(self, dataset) for dataset in world.all()):
            with self.change() as changed:
                return changed
        return world

    def save(self, world: World) -> None:
        """Make the pools what they are in `world`. Only under the lock."""
        for name, pool in world.pools.items():
            path, temporary = f"{self._pools}/{name}", f"{self._pools}/.{name}.new"
            with open(temporary, "wb") as file:
                file.write(encode_pool(pool))
            os.rename(temporary, path)
            self._saved[name] = _identity(path), pool
        for name in os.listdir(self._pools):
            if name not in world.pools:
                os.unlink(f"{self._pools}/{name}")

    # -- a dataset's data ------------------------------------------------------------------

    def data(self, dataset: Dataset) -> str:
        """The directory of a dataset's data."""
        return f"{self.private}/data/{dataset.key}"

    def blobs(self, dataset: Dataset) -> str:
        """The directory of its files' data."""
        return f"{self.data(dataset)}/b"

    def make_data(self, dataset: Dataset) -> None:
        """Make the directories of a new dataset."""
        os.makedirs(self.blobs(dataset), exist_ok=True)

    def manifest_path(self, dataset: Dataset, version: Snapshot | Bookmark) -> str:
        """The file with a version's manifest."""
        return f"{self.data(dataset)}/{version.content}"

    def manifest(self, dataset: Dataset, version: Snapshot | Bookmark | None) -> Manifest:
        """A version's manifest; an empty one for None."""
        return self.read_manifest(dataset, version.content if version is not None else None)

    def read_manifest(self, dataset: Dataset, name: object) -> Manifest:
        """The manifest of that name; an empty one for None."""
        manifest = Manifest()
        if name is None:
            return manifest
        with open(f"{self.data(dataset)}/{name}", "rb") as file:
            rows = loads(file.read())
        for path, kind, mode, mtime, size, blob, target, inode, ctime in rows:
            manifest.entries[path] = Entry(kind, mode, mtime, size, blob, target)
            if inode:
                manifest.stats[path] = (inode, ctime)
        return manifest

    def write_manifest(self, dataset: Dataset, name: str, manifest: Manifest) -> None:
        """Write it under that name; nothing refers to it yet."""
        rows = [
            (
                *(path, e.kind, e.mode, e.mtime, e.size, e.blob, e.target),
                *manifest.stats.get(path, (0, 0)),
            )
            for path, e in manifest.entries.items()
        ]
        with open(f"{self.data(dataset)}/{name}", "wb") as file:
            file.write(dumps(rows))

    def mark(self, kind: str, dataset: Dataset, text: str = "") -> None:
        """Note what has to be mended should this command be killed; see `recovery`."""
        path = f"{self.private}/marks/{kind}.{dataset.key}"
        with open(f"{path}~", "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.rename(f"{path}~", path)

    def noted(self, kind: str, dataset: Dataset) -> str:
        """The text of a mark, "" when there is none."""
        try:
            with open(f"{self.private}/marks/{kind}.{dataset.key}", "rb") as file:
                return file.read().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""

    def marks(self) -> list[tuple[str, str, str]]:
        """(kind, key, file) of all marks."""
        marks = f"{self.private}/marks"
        return [
            (*name.removesuffix("~").partition(".")[::2], f"{marks}/{name}")
            for name in sorted(os.listdir(marks))
        ]

    def refresh_live(self, dataset: Dataset, old: Manifest | None) -> None:
        """Have live files made anew from `head`, once this change is saved; `old`: what they
        are known to be now."""
        self.mark("stale", dataset)
        if old is not None:
            self.known_live[dataset.key] = old

    def sweep(self, dataset: Dataset) -> None:
        """Remove manifests and blobs that nothing refers to. Under the lock, after `save`."""
        data = self.data(dataset)
        versions: list[Snapshot | Bookmark] = [
            *dataset.snapshots.values(),
            *dataset.bookmarks.values(),
        ]
        kept = {version.content for version in versions} | {dataset.head}
        alive = {snap.content for snap in dataset.snapshots.values()} | {dataset.head}
        used: set[object] = set()
        for name in alive:
            used |= self._blobs(dataset, name)
        for name in os.listdir(f"{data}/b"):
            if name not in used:
                os.unlink(f"{data}/b/{name}")
        for name in os.listdir(data):
            if name.startswith("m.") and name not in kept:
                os.unlink(f"{data}/{name}")

    def _blobs(self, dataset: Dataset, name: object) -> frozenset[object]:
        """What a manifest refers to. One never changes, so a long receive reads each once."""
        path = f"{self.data(dataset)}/{name}"
        if path not in self._blobs_of:
            entries = self.read_manifest(dataset, name).entries.values()
            self._blobs_of[path] = frozenset([entry.blob for entry in entries])
        return self._blobs_of[path]

    def sweep_destroyed(self, world: World) -> None:
        """Remove the data of datasets that are no more. Under the lock, after `save`."""
        keys = {dataset.key for dataset in world.all()}
        for key in os.listdir(f"{self.private}/data"):
            if key not in keys:
                trees.remove_tree(f"{self.private}/data/{key}")

    def is_being_sent(self, dataset: Dataset, snap: Snapshot) -> bool:
        """Whether a running send reads it."""
        with open(self.manifest_path(dataset, snap), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    # -- live files ------------------------------------------------------------------------

    def skip(self, world: World, dataset: Dataset) -> set[str]:
        """Directories of other datasets that lie within this one's."""
        if dataset.is_volume or not isinstance(dataset.live, str):
            return set()
        inside = dataset.live + "/"
        return {
            each.live
            for each in world.all()
            if each.mounted and isinstance(each.live, str) and each.live.startswith(inside)
        }

    def live_manifest(self, world: World, dataset: Dataset) -> Manifest:
        """What a dataset's live files are now, without blobs."""
        if not isinstance(dataset.live, str):
            return self.read_manifest(dataset, dataset.head)
        if dataset.is_volume:
            return _volume_manifest(dataset.live)
        return trees.scan(dataset.live, self.skip(world, dataset))

    def live_size(self, world: World, dataset: Dataset) -> tuple[int, int]:
        """Bytes in its live files, and how many of them are in files changed since the newest
        snapshot."""
        try:
            now = self.live_manifest(world, dataset)
        except (Fault, OSError):
            # Somebody mounts or unmounts it right now.
            now = self.read_manifest(dataset, dataset.head)
        newest = self.manifest(dataset, dataset.newest).entries
        total = written = 0
        for path, entry in now.entries.items():
            total += entry.size
            before = newest.get(path)
            if before is None or before.size != entry.size or before.mtime != entry.mtime:
                written += entry.size
        return total, written

    def is_modified(self, world: World, dataset: Dataset) -> bool:
        """Whether live files were changed since they were made or kept."""
        if not isinstance(dataset.live, str):
            return False
        head = self.read_manifest(dataset, dataset.head)
        if dataset.is_volume:
            now = _volume_manifest(dataset.live).entries["data"]
            before = head.entries.get("data")
            return before is None or (now.size, now.mtime) != (before.size, before.mtime)
        return trees.is_modified(dataset.live, self.skip(world, dataset), head)

    def unchanged_since(self, world: World, dataset: Dataset, snap: Snapshot) -> bool:
        """Whether live files are still those of a snapshot, newer snapshots or not."""
        if self.is_modified(world, dataset):
            return False
        if snap.content == dataset.head:
            return True
        then = self.manifest(dataset, snap).entries
        now = self.read_manifest(dataset, dataset.head).entries
        return then.keys() == now.keys() and all(
            entry.same(now[path]) for path, entry in then.items()
        )

    def freeze(self, world: World, dataset: Dataset, snap: Snapshot) -> None:
        """Keep the live files as a new snapshot's content."""
        self.mark("dirty", dataset)
        old = self.read_manifest(dataset, dataset.head)
        name = f"m.{snap.guid:016x}"
        if not isinstance(dataset.live, str):
            manifest, snap.size = old, 0
        elif dataset.is_volume:
            manifest = _volume_manifest(dataset.live)
            entry = manifest.entries["data"]
            last = old.entries.get("data")
            if last is not None and (entry.size, entry.mtime) == (last.size, last.mtime):
                entry.blob, snap.size = last.blob, 0
            else:
                entry.blob = f"{snap.guid:016x}.0"
                entry.size = trees.copy_file(dataset.live, f"{self.blobs(dataset)}/{entry.blob}")
                snap.size = entry.size
        else:
            manifest, snap.size = trees.freeze(
                dataset.live,
                self.skip(world, dataset),
                old,
                self.blobs(dataset),
                f"{snap.guid:016x}",
                time.time_ns(),
            )
        self.write_manifest(dataset, name, manifest)
        snap.content = dataset.head = name

    def make_live(self, world: World, dataset: Dataset, old: Manifest | None) -> None:
        """Make the live files what `head` has. `old`: what is known to be there, None when that
        is not sure."""
        if not isinstance(dataset.live, str):
            return
        new = self.read_manifest(dataset, dataset.head)
        if dataset.is_volume:
            entry = new.entries.get("data")
            if entry is not None:
                trees.copy_file(f"{self.blobs(dataset)}/{entry.blob}", dataset.live)
                os.utime(dataset.live, ns=(entry.mtime, entry.mtime))
            return
        trees.make_tree(
            dataset.live, new, self.blobs(dataset), old=old, skip=self.skip(world, dataset)
        )


def _volume_manifest(path: str) -> Manifest:
    status = os.stat(path)
    manifest = Manifest()
    manifest.entries["data"] = Entry("f", 0o600, status.st_mtime_ns, status.st_size)
    return manifest


def _identity(path: str) -> tuple[int, ...]:
    """What tells a pool's file from any other that was ever in its place."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


class Change:
    """The lock, and the world that it protects; see `Store.change`."""

    def __init__(self, store: Store, *, keep: bool = True) -> None:
        self._store = store
        self._keep = keep
        self._world: World | None = None
        self._lock = -1

    def __enter__(self) -> World:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(f"{self._store.private}/lock", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._world = self._store.load(to_change=self._keep)
            if self._keep:
                recovery.recover(self._store, self._world)
        except BaseException:
            self._store.forget()
            os.close(self._lock)
            raise
        return self._world

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del error, traceback
        assert self._world is not None
        try:
            if kind is None and self._keep:
                self._store.save(self._world)
                recovery.finish(self._store, self._world)
            elif self._keep:
                self._store.forget()
                recovery.recover(self._store, self._store.load())
        finally:
            os.close(self._lock)
