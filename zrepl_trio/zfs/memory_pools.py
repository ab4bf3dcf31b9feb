"""Pools in memory, and what tests and simulations do to them by other means than `zfs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from zrepl_trio.clock import WallClock
from zrepl_trio.emulate.model import World
from zrepl_trio.zfs.memory_streams import Files, files_of
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["MemoryPools", "RandomBits"]


class RandomBits(Protocol):
    """Where guids come from: a seeded `random.Random`, say."""

    def getrandbits(self, k: int, /) -> int: ...


class MemoryPools:
    """Some pools. `world` is the model itself, for tests to look at; `write` and `read` are the
    filesystems' contents: paths to bytes."""

    def __init__(self, *, rng: RandomBits, clock: WallClock, pools: Sequence[str] = ()) -> None:
        self.world = World(bits=rng.getrandbits, clock=lambda: int(clock.now().timestamp()))
        for pool in pools:
            self.add_pool(pool)

    def add_pool(
        self, name: str, *, capacity: int = 1 << 50, properties: Mapping[str, str] | None = None
    ) -> DatasetPath:
        """Make a pool that holds `capacity` bytes; its root filesystem has these `properties`."""
        root = self.world.create_pool(name, capacity=capacity, root_mountpoint=f"/{name}")
        root.live = {}
        if properties:
            root.local.update(properties)
            self.world.settle_encryption(root)
        return DatasetPath.parse(name)

    def add_filesystem(
        self, name: str, properties: Mapping[str, str] | None = None, *, volume: bool = False
    ) -> DatasetPath:
        """Make a filesystem (or volume) and its missing parents."""
        path = DatasetPath.parse(name)
        for each in path.ancestors():
            if self.world.get(each) is None:
                self.world.create(each, {}).live = {}
        size = 1 << 20 if volume else None
        self.world.create(path, properties or {}, volume_size=size).live = {}
        return path

    def write(self, name: str, files: Mapping[str, bytes | None]) -> None:
        """Change a filesystem's files; None removes one."""
        dataset = self.world.open(name)
        live = dict(files_of(dataset.live))
        for path, data in files.items():
            if data is None:
                live.pop(path, None)
            else:
                live[path] = data
        dataset.live = live
        newest = dataset.newest
        same = newest is not None and live == files_of(newest.content)
        dataset.size = 0 if same else max(sum(map(len, live.values())), 1)  # emptied is no 0

    def read(self, name: str) -> Files:
        """The files of a filesystem, or of `filesystem@snapshot`."""
        dataset_name, _, snapshot = name.partition("@")
        dataset = self.world.open(dataset_name)
        return dict(files_of(dataset.snapshots[snapshot].content if snapshot else dataset.live))
