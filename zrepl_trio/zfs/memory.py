"""`MemoryZfs`: a whole ZFS in memory, for tests and simulations.

It obeys the same model as the emulated commands and raises what `CliZfs` would, mapped from the same
texts by the same table. All its I/O is in memory, so it runs on trio's autojump clock; ids and
times come from the caller, so a run repeats exactly.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.emulate import holds, transfer
from zrepl_trio.emulate.model import Fault, Snapshot
from zrepl_trio.emulate.renaming import rename
from zrepl_trio.emulate.stream import body_size, decode_token
from zrepl_trio.errors import DatasetExists, ZfsError
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.failures import failure
from zrepl_trio.zfs.filter import Extent
from zrepl_trio.zfs.memory_pools import MemoryPools, RandomBits
from zrepl_trio.zfs.memory_refusals import Refusals
from zrepl_trio.zfs.memory_shown import (
    Shown,
    snapshot_properties,
    token_shown,
    versions_shown,
)
from zrepl_trio.zfs.memory_streams import (
    Checkpoint,
    MemoryReceive,
    MemorySend,
    Opened,
    files_of,
    outgoing_of,
    wanted_changes,
)
from zrepl_trio.zfs.model import (
    Dataset,
    DatasetBrief,
    DestroyResult,
    Features,
    FilesystemVersion,
    Hold,
    Property,
    ReceiveArgs,
    ResumeToken,
    SendArgs,
    VersionKind,
)
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import ZfsReceive, ZfsSend
from zrepl_trio.zfs.same_version import another_by_now, check_existing_bookmark

__all__ = ["MemoryZfs"]

_FEATURES = Features(version="in memory")


Hook = Callable[[str, str], Awaitable[None]]
"""Awaited before each call with its name and dataset; may raise or wait: for fault injection."""


class MemoryZfs(MemoryPools):
    """Pools in memory, behind the `Zfs` port. `keeps_versions`: what was listed serves later listings.

    `before`, if set, is awaited before every call. `send_limit`
    maps a dataset to a count of bytes after which its next send fails, once. `checkpoint` is awaited
    where the commands would be waited for.
    """

    keeps_versions = False
    argument_bytes = 2_000_000

    def __init__(
        self,
        *,
        rng: RandomBits,
        clock: WallClock,
        pools: Sequence[str] = (),
        checkpoint: Checkpoint = trio.lowlevel.checkpoint,
    ) -> None:
        super().__init__(rng=rng, clock=clock, pools=pools)
        self._shown = Shown(self.world)
        self.before: Hook | None = None
        self.send_limit: dict[str, int] = {}
        self.calls: list[str] = []
        self._checkpoint = checkpoint
        self._receiving: set[str] = set()  # datasets' keys
        self._sending: list[Snapshot] = []

    async def features(self) -> Features:
        await self._enter("features", "")
        return _FEATURES

    async def datasets(self, roots: Sequence[DatasetPath] = ()) -> list[Dataset]:
        await self._enter("datasets", ",".join(roots))
        if not roots:
            return [self._shown.dataset(each) for each in self.world.all()]
        found: dict[str, Dataset] = {}
        for root in roots:
            with Refusals(partial(argv.list_datasets, root), root):
                self.world.open(root)
            for each in self.world.below(root):
                found.setdefault(each.name, self._shown.dataset(each))
        return list(found.values())

    async def datasets_in(self, extent: Extent) -> list[DatasetBrief]:
        await self._enter("datasets_in", ",".join((*extent.subtrees, *extent.alone)))
        if extent.everything:
            return [self._shown.brief(each) for each in self.world.all()]
        roots = [root for root in extent.subtrees if self.world.get(root)]
        alone = [each for path in extent.alone if (each := self.world.get(path))]
        below = [each for root in roots for each in self.world.below(root)]
        return [self._shown.brief(each) for each in (*below, *alone)]

    async def dataset(self, path: DatasetPath) -> Dataset | None:
        await self._enter("dataset", path)
        found = self.world.get(path)
        return self._shown.dataset(found) if found else None

    async def versions(self, path: DatasetPath) -> list[FilesystemVersion]:
        await self._enter("versions", path)
        with Refusals(lambda: argv.list_versions(path), path):
            return versions_shown(self.world.open(path), keep=self.keeps_versions)

    async def versions_below(
        self, roots: Sequence[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        await self._enter("versions_below", ",".join(roots))
        found: dict[DatasetPath, list[FilesystemVersion]] = {}
        for root in roots:
            with Refusals(partial(argv.list_versions_below, root), root):
                self.world.open(root)
            for each in self.world.below(root):
                if versions := versions_shown(each, keep=self.keeps_versions):
                    found[DatasetPath(each.name)] = versions
        return found

    async def properties(self, path: DatasetPath, names: Sequence[str]) -> dict[str, Property]:
        await self._enter("properties", path)
        with Refusals(lambda: argv.get_properties([path], names), path):
            dataset = self.world.open(path)
        return self._shown.properties(dataset, names)

    async def properties_of(
        self, paths: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, Property]]:
        await self._enter("properties_of", paths[0])
        found = {}
        with Refusals(lambda: argv.get_properties(paths, names), paths[0]):
            for path in paths:
                name, _, snapshot = path.partition("@")
                dataset = self.world.open(name)
                if snapshot and snapshot not in dataset.snapshots:
                    raise Fault(f"cannot open '{path}': dataset does not exist")
                if snapshot:
                    found[path] = snapshot_properties(dataset.snapshots[snapshot], names)
                else:
                    found[path] = self._shown.properties(dataset, names)
        return found

    async def set_properties(self, path: DatasetPath, values: Mapping[str, str]) -> None:
        await self._enter("set_properties", path)
        with Refusals(lambda: argv.set_properties(path, values), path):
            self.world.set(path, values)

    async def create_filesystem(self, path: DatasetPath, properties: Mapping[str, str]) -> None:
        await self._enter("create_filesystem", path)
        with Refusals(lambda: argv.create_filesystem(path, properties), path):
            made = self.world.create(path, properties)
        made.live = {}

    async def rename(self, old: DatasetPath, new: DatasetPath) -> None:
        await self._enter("rename", old)
        with Refusals(lambda: argv.rename(old, new), old):
            rename(self.world, old, new)

    async def destroy_filesystem(self, path: DatasetPath) -> None:
        await self._enter("destroy_filesystem", path)
        with Refusals(lambda: argv.destroy_filesystem(path), path):
            self.world.destroy(path, recursive=False)

    async def snapshot(self, path: DatasetPath, name: str) -> None:
        await self._enter("snapshot", path)
        self._snapshot(partial(argv.snapshot, path, name), [path], name)

    async def snapshot_all(self, paths: Sequence[DatasetPath], name: str) -> None:
        await self._enter("snapshot_all", ",".join(paths))
        self._snapshot(partial(argv.snapshot_all, paths, name), paths, name)

    def _snapshot(
        self, words: Callable[[], Sequence[str]], paths: Sequence[DatasetPath], name: str
    ) -> None:
        with Refusals(words, paths[0]):
            made = self.world.snapshots([(path, name) for path in paths])
        for dataset, snap in made:
            snap.content = dict(files_of(dataset.live))
            snap.size, dataset.size = dataset.size, 0

    async def bookmark(self, path: DatasetPath, snapshot: FilesystemVersion, name: str) -> None:
        await self._enter("bookmark", path)
        if snapshot.is_snapshot:
            try:
                with Refusals(lambda: argv.bookmark(path, snapshot.name, name), path):
                    self.world.bookmark(f"{path}@{snapshot.name}", f"{path}#{name}")
                return
            except DatasetExists:
                pass
        check_existing_bookmark(
            path, snapshot, name, versions_shown(self.world.open(path), keep=self.keeps_versions)
        )

    async def destroy_bookmark(self, path: DatasetPath, name: str) -> None:
        await self._enter("destroy_bookmark", path)
        dataset = self.world.get(path)
        if dataset is not None and name in dataset.bookmarks:
            self.world.destroy_bookmark(path, name)

    async def bookmarks_in_bulk(self) -> bool:
        return True

    async def change_bookmarks(
        self,
        make: Mapping[DatasetPath, Mapping[str, FilesystemVersion]],
        destroy: Mapping[DatasetPath, Collection[str]],
    ) -> None:
        for path, snapshots in make.items():
            for name, snapshot in snapshots.items():
                await self.bookmark(path, snapshot, name)
                if self.world.open(path).bookmarks[name].guid != snapshot.guid:
                    self.world.destroy_bookmark(path, name)
                    raise another_by_now(path, name, snapshot)
        for path, names in destroy.items():
            for name in names:
                await self.destroy_bookmark(path, name)

    async def destroy_size(self, path: DatasetPath, names: Sequence[str]) -> int:
        await self._enter("destroy_size", path)
        dataset = self.world.get(path)
        there = dataset.snapshots if dataset is not None else {}
        return sum(there[name].size for name in set(names) if name in there)

    async def destroy_snapshots(
        self, path: DatasetPath, names: Sequence[str]
    ) -> list[DestroyResult]:
        await self._enter("destroy_snapshots", path)
        results = []
        dataset = self.world.get(path)
        for name in names:
            error = ""
            if dataset is None or name in dataset.snapshots:
                try:
                    with Refusals(partial(argv.destroy_snapshots, path, [name]), f"{path}@{name}"):
                        dataset = self.world.open(path)
                        self.world.destroy_snapshots(
                            path,
                            [name],
                            busy={s.name for s in self._sending if s is dataset.snapshots[name]},
                        )
                except ZfsError as refused:
                    error = str(refused)
            results.append(DestroyResult(name, error))
        return results

    async def holds(self, path: DatasetPath, snapshots: Collection[str]) -> list[Hold]:
        await self._enter("holds", path)
        return self._holds(path, snapshots)

    def _holds(self, path: DatasetPath, snapshots: Collection[str]) -> list[Hold]:
        found = []
        with Refusals(lambda: argv.list_holds([f"{path}@{name}" for name in snapshots]), path):
            dataset = self.world.open(path)
            for name in snapshots:
                if name not in dataset.snapshots:
                    raise Fault(f"cannot open '{path}@{name}': dataset does not exist")
                found += [Hold(path, name, tag) for tag in dataset.snapshots[name].holds]
        return found

    async def holds_of(
        self, snapshots: Mapping[DatasetPath, Collection[str]]
    ) -> dict[DatasetPath, list[Hold]]:
        await self._enter("holds_of", "")
        found = {path: self._holds(path, names) for path, names in snapshots.items()}
        return {path: each for path, each in found.items() if each}

    async def hold(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        await self._enter("hold", path)
        dataset = self.world.get(path)
        wanted = [
            (str(path), name)
            for name in snapshots
            if not (dataset and name in dataset.snapshots and tag in dataset.snapshots[name].holds)
        ]
        with Refusals(lambda: argv.hold([f"{path}@{name}" for name in snapshots], tag), path):
            holds.hold(self.world, tag, wanted)

    async def release(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        await self._enter("release", path)
        dataset = self.world.get(path)
        if dataset is not None:
            for name in snapshots:
                if name in dataset.snapshots and tag in dataset.snapshots[name].holds:
                    holds.release(self.world, tag, [(path, name)])

    async def hold_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        for path, names in snapshots.items():
            await self.hold(path, names, tag)

    async def release_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        for path, names in snapshots.items():
            await self.release(path, names, tag)

    async def rollback(
        self, path: DatasetPath, snapshot: str, *, destroy_newer: bool = True
    ) -> None:
        await self._enter("rollback", path)
        with Refusals(lambda: argv.rollback(path, snapshot, destroy_newer=destroy_newer), path):
            dataset, _ = self.world.rollback(path, snapshot, recursive=destroy_newer)
        dataset.live = dict(files_of(dataset.snapshots[snapshot].content))

    async def abort_receive(self, path: DatasetPath) -> None:
        await self._enter("abort_receive", path)
        dataset = self.world.get(path)
        if dataset is None or dataset.partial is None:
            return
        if dataset.key in self._receiving:
            with Refusals(lambda: argv.abort_receive(path), path):
                raise Fault(f"cannot destroy '{path}': dataset is busy")
        created = dataset.partial.created
        dataset.partial = None
        if created:
            transfer.drop_created(self.world, dataset)

    async def send_size(self, args: SendArgs) -> int | None:
        await self._enter("send_size", args.dataset)
        with Refusals(lambda: argv.send_dry(args), args.dataset):
            (out,) = outgoing_of(self.world, args)
        if args.from_ is not None and args.from_.kind is VersionKind.BOOKMARK:
            return None
        return max(body_size(wanted_changes(out)) - out.offset, 0) or None

    async def packed_sizes(self, args: SendArgs) -> dict[str, int]:
        await self._enter("packed_sizes", args.dataset)
        with Refusals(lambda: argv.send_dry(args), args.dataset):
            return {
                out.to.name: body_size(wanted_changes(out)) for out in outgoing_of(self.world, args)
            }

    async def decode_token(self, token: str) -> ResumeToken:
        await self._enter("decode_token", "")
        with Refusals(lambda: argv.decode_token(token), ""):
            fields = decode_token(token)
        return token_shown(fields)

    def open_send(self, args: SendArgs) -> AbstractAsyncContextManager[ZfsSend]:
        return Opened(partial(self._open_send, args), self._end_send)

    async def _open_send(self, args: SendArgs) -> MemorySend:
        await self._enter("open_send", args.dataset)
        stream = MemorySend(
            partial(outgoing_of, self.world, args),
            partial(_failure, partial(argv.send, args), args.dataset),
            packed=args.packed,
            limit=self.send_limit.pop(args.dataset, None),
            checkpoint=self._checkpoint,
        )
        self._sending += stream.snapshots
        return stream

    def _end_send(self, stream: MemorySend) -> None:
        stream.end()
        for snap in stream.snapshots:
            self._sending.remove(snap)

    def open_receive(self, args: ReceiveArgs) -> AbstractAsyncContextManager[ZfsReceive]:
        return Opened(partial(self._open_receive, args), self._end_receive)

    async def _open_receive(self, args: ReceiveArgs) -> MemoryReceive:
        await self._enter("open_receive", args.dataset)
        return MemoryReceive(
            self.world,
            args,
            self._receiving,
            partial(_failure, partial(argv.receive, args), args.dataset),
            checkpoint=self._checkpoint,
        )

    def _end_receive(self, receive: MemoryReceive) -> None:
        receive.end()

    async def _enter(self, call: str, dataset: str) -> None:
        self.calls.append(f"{call} {dataset}".rstrip())
        if self.before is not None:
            await self.before(call, dataset)
        await self._checkpoint()


def _failure(words: Callable[[], Sequence[str]], dataset: str, fault: Fault) -> ZfsError:
    return failure(words(), fault.status, fault.text + "\n", dataset=dataset)
