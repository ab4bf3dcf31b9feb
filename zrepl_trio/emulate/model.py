"""`World`: all pools of a host, and the rules that zfs applies to them.

Pure: ids and times come from the caller's `bits` and `clock`. What zfs refuses is a `Fault` with
zfs's own words.
"""

from __future__ import annotations

from zrepl_trio.emulate import names
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.objects import Bookmark, Dataset, Partial, Pool, Snapshot, Watched
from zrepl_trio.emulate.properties import check_settable, default_of, is_inheritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

__all__ = ["Bookmark", "Dataset", "Fault", "Partial", "Pool", "Snapshot", "World"]


class World:
    """All pools of one host, and every change that zfs would allow.

    `bits(n)` gives n random bits, `clock()` seconds since the epoch.
    """

    def __init__(self, *, bits: Callable[[int], int], clock: Callable[[], int]) -> None:
        self.pools: dict[str, Pool] = {}
        self.bits = bits
        self.clock = clock
        self.altroot = ""
        """A directory that all mountpoints lie in, as that of `zpool import -R`."""
        self.live_size: Callable[[World, Dataset], tuple[int, int]] | None = None
        """Gives bytes in live files and, of them, those written since the newest snapshot."""
        self.roomy = False
        """Whether no pool and no quota is ever full."""
        self._below: dict[str, list[Dataset]] = {}
        self._below_at = -1

    # -- finding ---------------------------------------------------------------------------

    def pool_of(self, name: str) -> Pool | None:
        """The pool that a dataset, snapshot or bookmark name is in."""
        return self.pools.get(names.pool_name(name))

    def get(self, name: str) -> Dataset | None:
        """That dataset, None when it is not there."""
        pool = self.pools.get(name.partition("/")[0])
        return pool.datasets.get(name) if pool is not None else None

    def open(self, name: str) -> Dataset:
        """That dataset; zfs's "cannot open" when it is not there."""
        pool = self.pools.get(name.partition("/")[0])
        found = pool.datasets.get(name) if pool is not None else None
        if found is None:
            raise Fault(f"cannot open '{name}': dataset does not exist")
        return found

    def pool(self, dataset: Dataset) -> Pool:
        """The pool of a dataset that exists."""
        return self.pools[dataset.name.partition("/")[0]]

    def below(self, name: str, *, depth: int = -1) -> list[Dataset]:
        """`name` and all below it, parents first, siblings by name; depth -1: all levels."""
        if depth >= 0:
            return self._found_below(name, depth)
        if Watched.changes != self._below_at:
            self._below.clear()
            self._below_at = Watched.changes
        found = self._below.get(name)
        if found is None:
            found = self._below[name] = self._found_below(name, depth)
        return found.copy()

    def _found_below(self, name: str, depth: int) -> list[Dataset]:
        pool = self.pool_of(name)
        if pool is None:
            return []
        prefix = name + "/"
        found = [
            d
            for d in pool.datasets.values()
            if d.name == name
            or (
                d.name.startswith(prefix)
                and (depth < 0 or d.name[len(prefix) :].count("/") < depth)
            )
        ]
        if len(found) > 1:
            found.sort(key=lambda d: d.name.split("/"))
        return found

    def all(self) -> Iterator[Dataset]:
        """Every dataset of every pool, parents first."""
        for pool in sorted(self.pools):
            yield from self.below(pool)

    def used(self, dataset: Dataset) -> int:
        """Bytes that a dataset and all below it hold, snapshots included."""
        total = 0
        for each in self.below(dataset.name):
            total += self.sizes(each)[1] + sum(s.size for s in each.snapshots.values())
        return total

    def sizes(self, dataset: Dataset) -> tuple[int, int]:
        """Bytes in live files and, of them, those written since the newest snapshot."""
        if self.live_size is not None:
            return self.live_size(self, dataset)
        return dataset.size, dataset.size

    def room(self, name: str) -> tuple[int, str]:
        """Bytes that may still be put into `name`, and which dataset's quota sets that ("" pool)."""
        if self.roomy:
            return 1 << 62, ""
        pool = self.pools[names.pool_name(name)]
        best = pool.capacity - self.used(pool.datasets[pool.name])
        limit = ""
        for each in [*names.ancestors(name), name]:
            dataset = pool.datasets.get(each)
            quota = self.value(dataset, "quota")[0] if dataset else "0"
            if dataset and quota not in {"0", "none", "-"}:
                left = int(quota) - self.used(dataset)
                if left < best:
                    best, limit = left, each
        return max(best, 0), limit

    # -- properties ------------------------------------------------------------------------

    def value(self, dataset: Dataset, prop: str) -> tuple[str, str]:
        """A settable property's value (`-p` form) and source column; user properties too."""
        first = True
        walk: Dataset | None = dataset
        while walk is not None:
            if prop in walk.local:
                local = walk.local[prop]
                if local is not None:
                    return local, "local" if first else f"inherited from {walk.name}"
            elif prop in walk.received:
                return walk.received[prop], "received" if first else f"inherited from {walk.name}"
            if not is_inheritable(prop):
                break
            parent = names.parent(walk.name)
            walk = self.get(parent) if parent else None
            first = False
        default = default_of(prop, is_volume=dataset.is_volume)
        if default is None:
            return "-", "-"
        if prop == "mountpoint":
            return names.join_mountpoint(self.pool(dataset).root_mountpoint, ""), "default"
        return default, "default"

    def mountpoint(self, dataset: Dataset) -> tuple[str, str]:
        """The `mountpoint` property: a path, `none` or `legacy`, and its source column."""
        if dataset.is_volume:
            return "-", "-"
        walk: Dataset | None = dataset
        while walk is not None:
            local = walk.local.get("mountpoint")
            received = None if "mountpoint" in walk.local else walk.received.get("mountpoint")
            chosen = local if local is not None else received
            if chosen is not None:
                own = "local" if local is not None else "received"
                source = own if walk is dataset else f"inherited from {walk.name}"
                if chosen in {"none", "legacy"}:
                    return chosen, source
                path = names.join_mountpoint(chosen, dataset.name[len(walk.name) :])
                inside = path == self.altroot or path.startswith(self.altroot + "/")
                return path if inside else self.altroot + path, source
            parent = names.parent(walk.name)
            walk = self.get(parent) if parent else None
        root = self.pool(dataset).root_mountpoint
        return names.join_mountpoint(root, dataset.name.partition("/")[2]), "default"

    def set(self, name: str, values: Mapping[str, str]) -> Dataset:
        """`zfs set` of all values at once."""
        dataset = self.open(name)
        for prop, value in values.items():
            check_settable(prop, value, f"cannot set property for '{name}'")
        for prop, value in values.items():
            dataset.local[prop] = value
        self.tick(dataset)
        return dataset

    def inherit(self, name: str, prop: str, *, to_received: bool) -> Dataset:
        """`zfs inherit [-S]`."""
        dataset = self.open(name)
        if to_received or prop not in dataset.received:
            dataset.local.pop(prop, None)
        else:
            dataset.local[prop] = None
        self.tick(dataset)
        return dataset

    # -- pools and datasets ----------------------------------------------------------------

    def tick(self, dataset: Dataset) -> int:
        """The next transaction of the dataset's pool, which changes the dataset."""
        dataset.listed = None
        pool = self.pool(dataset)
        pool.txg += 1
        return pool.txg

    def new_guid(self) -> int:
        """A 64 bit guid, never 0."""
        return self.bits(64) or 1

    def create_pool(self, name: str, *, capacity: int = 1 << 50, root_mountpoint: str) -> Dataset:
        """`zpool create`, with its root filesystem."""
        if name in self.pools:
            raise Fault(f"cannot create '{name}': pool already exists")
        now = self.clock()
        pool = Pool(name, self.new_guid(), now, capacity=capacity, root_mountpoint=root_mountpoint)
        self.pools[name] = pool
        root = Dataset(name, self.new_guid(), 1, now)
        pool.datasets[name] = root
        return root

    def create(
        self, name: str, properties: Mapping[str, str], *, volume_size: int | None = None
    ) -> Dataset:
        """`zfs create [-V]`; the parent must exist."""
        cannot = f"cannot create '{name}'"
        names.check_dataset(name, cannot)
        pool = self.pool_of(name)
        if pool is None:
            raise Fault(f"{cannot}: no such pool '{names.pool_name(name)}'")
        if name in pool.datasets:
            raise Fault(f"{cannot}: dataset already exists")
        parent = pool.datasets.get(names.parent(name))
        if parent is None:
            raise Fault(f"{cannot}: parent does not exist")
        if parent.is_volume:
            raise Fault(f"{cannot}: parent is not a filesystem")
        for prop, value in properties.items():
            check_settable(prop, value, cannot, creating=True)
        dataset = self.add(name, self.new_guid(), is_volume=volume_size is not None)
        dataset.local.update(properties)
        self.settle_encryption(dataset)
        if volume_size is not None:
            dataset.local["volsize"] = str(volume_size)
        return dataset

    def settle_encryption(self, dataset: Dataset) -> None:
        """Fix a new dataset's encryption flag: its own, which makes it a root, else its parent's."""
        own = dataset.local.pop("encryption", None)
        if own not in {None, "off"}:
            dataset.local["encryptionroot"] = "self"
        parent = self.get(names.parent(dataset.name))
        if own is None and parent is not None:
            own = parent.local.get("encryption")
        if own not in {None, "off"}:
            dataset.local["encryption"] = "aes-256-gcm"

    def add(self, name: str, guid: int, *, is_volume: bool) -> Dataset:
        """Enter a dataset that was checked already."""
        pool = self.pools[names.pool_name(name)]
        pool.txg += 1
        dataset = Dataset(name, guid, pool.txg, self.clock(), is_volume=is_volume)
        pool.datasets[name] = dataset
        return dataset

    def destroy(self, name: str, *, recursive: bool) -> list[Dataset]:
        """`zfs destroy [-r]` of a dataset; what went, children first."""
        dataset = self.open(name)
        if name == names.pool_name(name):
            raise Fault(
                f"cannot destroy '{name}': operation does not apply to pools\n"
                f"use 'zfs destroy -r {name}' to destroy all datasets in the pool\n"
                f"use 'zpool destroy {name}' to destroy the pool itself"
            )
        doomed = self.below(name)
        if not recursive and (len(doomed) > 1 or dataset.snapshots):
            lines = [
                f"cannot destroy '{name}': filesystem has children"
                if not dataset.is_volume
                else f"cannot destroy '{name}': volume has children",
                "use '-r' to destroy the following datasets:",
            ]
            for each in reversed(doomed):
                lines.extend(f"{each.name}@{s}" for s in each.snapshots)
                if each is not dataset:
                    lines.append(each.name)
            raise Fault("\n".join(lines))
        for each in doomed:
            for snap in each.snapshots.values():
                if reason := _in_the_way(each.name, snap, busy=False):
                    raise Fault(f"cannot destroy snapshot {each.name}@{snap.name}: {reason}")
        pool = self.pool(dataset)
        for each in doomed:
            del pool.datasets[each.name]
        pool.txg += 1
        return doomed[::-1]

    # -- snapshots and bookmarks -----------------------------------------------------------

    def snapshots(
        self, wanted: Iterable[tuple[str, str]], properties: Mapping[str, str] | None = None
    ) -> list[tuple[Dataset, Snapshot]]:
        """`zfs snapshot` of several (dataset, name), all or none; the caller fills `content`."""
        pairs = list(wanted)
        taken: list[str] = []
        for dataset_name, name in pairs:
            full = f"{dataset_name}@{name}"
            names.check_version(full, f"cannot create snapshot '{full}'")
            dataset = self.get(dataset_name)
            if dataset is None:
                raise Fault(f"cannot open '{dataset_name}': dataset does not exist", 2)
            if name in dataset.snapshots:
                taken.append(f"cannot create snapshot '{full}': dataset already exists")
        if len({dataset_name for dataset_name, _ in pairs}) < len(pairs):
            taken = ["cannot create snapshots : multiple snapshots of same fs not allowed"]
        if taken:
            raise Fault("\n".join([*taken, *["no snapshots were created"][: len(pairs) - 1]]))
        made = []
        txgs: dict[str, int] = {}
        now = self.clock()
        for dataset_name, name in pairs:
            dataset = self.open(dataset_name)
            pool = names.pool_name(dataset_name)
            if pool not in txgs:
                txgs[pool] = self.tick(dataset)
            snap = Snapshot(name, self.new_guid(), txgs[pool], now)
            snap.props.update(properties or {})
            dataset.snapshots[name] = snap
            dataset.listed = None
            made.append((dataset, snap))
        return made

    def bookmark(self, source: str, target: str) -> Bookmark:
        """`zfs bookmark SOURCE TARGET`; SOURCE is a snapshot or bookmark, both full names."""
        cannot = f"cannot create bookmark '{target}'"
        try:
            names.check_version(target, cannot)
        except Fault as fault:
            raise Fault(f"{cannot}: invalid argument") from fault
        dataset_name, sign, name = names.split_version(source)
        target_dataset, _, target_name = names.split_version(target)
        dataset = self.get(dataset_name)
        origin: Snapshot | Bookmark | None = None
        if dataset is not None:
            origin = (dataset.snapshots if sign == "@" else dataset.bookmarks).get(name)
        if dataset is None or origin is None:
            what = "dataset does not exist" if sign == "@" else "no such pool or dataset"
            raise Fault(f"cannot open '{source}': {what}", 2)
        if target_dataset != dataset_name:
            raise Fault(f"{cannot}: source is not an ancestor of the new bookmark's dataset")
        if target_name in dataset.bookmarks:
            raise Fault(f"{cannot}: bookmark exists")
        made = Bookmark(target_name, origin.guid, origin.createtxg, origin.creation, origin.content)
        dataset.bookmarks[target_name] = made
        self.tick(dataset)
        return made

    def destroy_bookmark(self, dataset_name: str, name: str) -> Bookmark:
        """`zfs destroy fs#name`."""
        dataset = self.get(dataset_name)
        if dataset is None or name not in dataset.bookmarks:
            raise Fault(f"bookmark '{dataset_name}#{name}' does not exist.")
        self.tick(dataset)
        return dataset.bookmarks.pop(name)

    def destroy_snapshots(
        self, dataset_name: str, wanted: Iterable[str], *, busy: Collection[str]
    ) -> list[Snapshot]:
        """`zfs destroy fs@a,b,c`: all that exist or none; a missing one is passed over. `busy`
        are those that a send reads."""
        dataset = self.open(dataset_name)
        found = [dataset.snapshots[n] for n in wanted if n in dataset.snapshots]
        if not found:
            raise Fault("could not find any snapshots to destroy; check snapshot names.")
        refused = [
            f"cannot destroy snapshot {dataset_name}@{snap.name}: " + reason
            for snap in reversed(found)
            if (reason := _in_the_way(dataset_name, snap, busy=snap.name in busy))
        ]
        if refused:
            raise Fault("\n".join(refused))
        for snap in found:
            del dataset.snapshots[snap.name]
        self.tick(dataset)
        return found

    def rename_snapshot(self, dataset_name: str, name: str, new_name: str) -> None:
        """`zfs rename fs@a fs@b`."""
        dataset = self.open(dataset_name)
        if name not in dataset.snapshots:
            raise Fault(f"cannot open '{dataset_name}@{name}': dataset does not exist")
        if new_name in dataset.snapshots:
            raise Fault(f"cannot rename '{dataset_name}@{name}': dataset already exists")
        dataset.snapshots[name].name = new_name
        dataset.snapshots[name].shown = None
        dataset.snapshots = {snap.name: snap for snap in dataset.snapshots.values()}
        self.tick(dataset)

    def rollback(
        self, dataset_name: str, name: str, *, recursive: bool
    ) -> tuple[Dataset, list[Snapshot]]:
        """`zfs rollback [-r]`: the dataset, and the newer snapshots that went."""
        full = f"{dataset_name}@{name}"
        dataset = self.get(dataset_name)
        if dataset is None or name not in dataset.snapshots:
            raise Fault(f"cannot open '{full}': dataset does not exist")
        target = dataset.snapshots[name]
        order = list(dataset.snapshots)
        newer = [dataset.snapshots[n] for n in order[order.index(name) + 1 :]]
        marks = [b for b in dataset.bookmarks.values() if b.createtxg > target.createtxg]
        if (newer or marks) and not recursive:
            lines = [
                f"cannot rollback to '{full}': more recent snapshots or bookmarks exist",
                "use '-r' to force deletion of the following snapshots and bookmarks:",
                *(f"{dataset_name}@{s.name}" for s in newer),
                *(f"{dataset_name}#{b.name}" for b in marks),
            ]
            raise Fault("\n".join(lines))
        held = [s for s in newer if s.holds]
        if held:
            raise Fault(f"cannot destroy '{dataset_name}@{held[-1].name}': dataset is busy")
        for snap in newer:
            del dataset.snapshots[snap.name]
        for mark in marks:
            del dataset.bookmarks[mark.name]
        dataset.head = target.content
        dataset.size = 0
        self.tick(dataset)
        return dataset, newer


def _in_the_way(dataset: str, snap: Snapshot, *, busy: bool) -> str:
    """Why a snapshot can't be destroyed; "" when it can."""
    if snap.holds:
        full = f"{dataset}@{snap.name}"
        return f"it's being held. Run 'zfs holds -r {full}' to see holders."
    return "dataset is busy" if busy else ""
