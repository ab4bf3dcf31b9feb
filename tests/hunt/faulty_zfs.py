"""A host's ZFS whose commands fail as told, and that tells what it has done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from random import Random
from typing import Protocol

import structlog

from tests.hunt.evidence import listed_in
from tests.hunt.faults import Faults
from tests.hunt.moments import Moments, WatchedReceive, WatchedSend
from tests.hunt.rules import Listed
from zrepl_trio.clock import WallClock
from zrepl_trio.emulate.objects import Dataset, Snapshot
from zrepl_trio.errors import NoSpace, ZfsError
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion, ReceiveArgs, SendArgs
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import ZfsReceive, ZfsSend

__all__ = ["FaultyZfs", "Witness"]


class Witness(Protocol):
    """Is told of each change of a host's, once it is made. `by` is the host whose daemon wanted it."""

    def changed(self, host: str, dataset: str, *, call: str, by: str) -> None: ...

    def snapshots_gone(
        self, host: str, dataset: str, before: Sequence[Listed], gone: Collection[str]
    ) -> None:
        """These were destroyed, of those that there were."""

    def rolled_back(self, host: str, dataset: str, gone: Collection[str]) -> None:
        """What was newer went with it."""


class FaultyZfs(MemoryZfs):
    """`dead`: the daemon is gone, so nothing that it still tries has an effect. `moments` is told of each command, and
    of the bytes of each stream; `faults` are those to come; what is in `full` is called when a pool has no room left for
    a receive. Without `bulk` it is a zfs without OpenZFS's C library."""

    def __init__(
        self, host: str, *, seed: int, clock: WallClock, witness: Witness, bulk: bool = True
    ) -> None:
        super().__init__(rng=Random(f"{seed}:{host}"), clock=clock)
        self.host = host
        self.witness = witness
        self.dead = False
        self.by_hand: set[int] = set()
        """The guids of snapshots that an admin has destroyed."""
        self.calm = False
        self.faults = Faults()
        self.moments = Moments()
        self.full: list[Callable[[], None]] = []
        self._bulk = bulk
        self.before = self._fault

    async def _fault(self, call: str, dataset: str) -> None:
        if self.dead:
            raise ZfsError(f"{call}: the daemon is gone", dataset=dataset)
        # before it has an effect: where this kills the daemon, the next checkpoint is the last
        self.moments.called(call)
        if self.faults.strike("before", call):
            raise ZfsError(f"cannot {call} '{dataset}': I/O error", dataset=dataset)

    def mend(self) -> None:
        """No command is to fail any more."""
        self.faults.forget()
        self.send_limit.clear()
        self.moments.forget()
        self.calm = True

    @property
    def sending_now(self) -> list[Snapshot]:
        """The snapshots that streams are made from."""
        return self._sending

    @property
    def receiving_keys(self) -> set[str]:
        """Of the datasets that are received into."""
        return self._receiving

    def take_by_hand(self, path: DatasetPath, name: str) -> None:
        """A snapshot, by nobody's daemon."""
        self._snapshot(partial(argv.snapshot, path, name), [path], name)

    def listed(self, dataset: str) -> list[Listed]:
        """Its snapshots, oldest first; none where it is not there."""
        found = self.world.get(dataset)
        return listed_in(found) if found is not None else []

    def _gone(self, found: Dataset | None, before: Sequence[Listed]) -> list[str]:
        """The names of those that a command destroyed, and not meanwhile an admin, who may have renamed it as well."""
        left = {each.guid for each in found.snapshots.values()} if found is not None else set()
        return [each.name for each in before if each.guid not in left | self.by_hand]

    def in_use(self) -> list[str]:
        """What is being sent or received now."""
        return [f"a stream of @{each.name}" for each in self._sending] + [
            f"a receive into {each}" for each in self._receiving
        ]

    def _done(self, call: str, *datasets: str) -> None:
        by = str(structlog.contextvars.get_contextvars().get("on_behalf_of", self.host))
        for dataset in datasets:
            self.witness.changed(self.host, dataset, call=call, by=by)
        if self.faults.strike("after", call):
            raise ZfsError(f"{call}: failed at its very end", dataset=next(iter(datasets), ""))

    def _part(self, call: str, items: Iterable[str]) -> list[str] | None:
        """The part of them that is done before it fails, if it is to."""
        every = list(items)
        if len(every) < 2 or not self.faults.strike("during", call):
            return None
        return every[: len(every) // 2]

    # -- what changes something -------------------------------------------------------------

    async def snapshot(self, path: DatasetPath, name: str) -> None:
        await super().snapshot(path, name)
        self._done("snapshot", path)

    async def snapshot_all(self, paths: Sequence[DatasetPath], name: str) -> None:
        await super().snapshot_all(paths, name)
        self._done("snapshot_all", *paths)

    async def bookmark(self, path: DatasetPath, snapshot: FilesystemVersion, name: str) -> None:
        await super().bookmark(path, snapshot, name)
        self._done("bookmark", path)

    async def destroy_bookmark(self, path: DatasetPath, name: str) -> None:
        await super().destroy_bookmark(path, name)
        self._done("destroy_bookmark", path)

    async def bookmarks_in_bulk(self) -> bool:
        return self._bulk

    async def change_bookmarks(
        self,
        make: Mapping[DatasetPath, Mapping[str, FilesystemVersion]],
        destroy: Mapping[DatasetPath, Collection[str]],
    ) -> None:
        part = self._part("change_bookmarks", [*make, *destroy])
        if part is None:
            await super().change_bookmarks(make, destroy)
            return
        made = {path: make[DatasetPath(path)] for path in part if path in make}
        await super().change_bookmarks({DatasetPath(path): each for path, each in made.items()}, {})
        raise ZfsError("cannot change bookmarks: I/O error")

    async def destroy_snapshots(
        self, path: DatasetPath, names: Sequence[str]
    ) -> list[DestroyResult]:
        part = self._part("destroy_snapshots", names)
        found, before = self.world.get(path), self.listed(path)
        results = await super().destroy_snapshots(path, names if part is None else part)
        gone = self._gone(found, before)
        if gone:
            self.witness.snapshots_gone(self.host, path, before, gone)
        self._done("destroy_snapshots", path)
        _fail_if(part, "destroy_snapshots", path)
        return results

    async def hold(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        part = self._part("hold", snapshots)
        await super().hold(path, snapshots if part is None else part, tag)
        self._done("hold", path)
        _fail_if(part, "hold", path)

    async def release(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        part = self._part("release", snapshots)
        await super().release(path, snapshots if part is None else part, tag)
        self._done("release", path)
        _fail_if(part, "release", path)

    async def hold_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        part = self._part("hold_of", snapshots)
        await super().hold_of(_those(snapshots, part), tag)
        _fail_if(part, "hold_of")

    async def release_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        part = self._part("release_of", snapshots)
        await super().release_of(_those(snapshots, part), tag)
        _fail_if(part, "release_of")

    async def set_properties(self, path: DatasetPath, values: Mapping[str, str]) -> None:
        await super().set_properties(path, values)
        self._done("set_properties", path)

    async def create_filesystem(self, path: DatasetPath, properties: Mapping[str, str]) -> None:
        await super().create_filesystem(path, properties)
        self._done("create_filesystem", path)

    async def rename(self, old: DatasetPath, new: DatasetPath) -> None:
        await super().rename(old, new)
        self._done("rename", new)

    async def destroy_filesystem(self, path: DatasetPath) -> None:
        await super().destroy_filesystem(path)
        self._done("destroy_filesystem", path)

    async def rollback(
        self, path: DatasetPath, snapshot: str, *, destroy_newer: bool = True
    ) -> None:
        found, before = self.world.get(path), self.listed(path)
        await super().rollback(path, snapshot, destroy_newer=destroy_newer)
        gone = self._gone(found, before)
        if gone:
            self.witness.rolled_back(self.host, path, gone)
        self._done("rollback", path)

    async def abort_receive(self, path: DatasetPath) -> None:
        await super().abort_receive(path)
        self._done("abort_receive", path)

    def open_send(self, args: SendArgs) -> AbstractAsyncContextManager[ZfsSend]:
        return self._watched_send(args)

    @asynccontextmanager
    async def _watched_send(self, args: SendArgs) -> AsyncIterator[ZfsSend]:
        stop = self.faults.take("stop", "open_send")
        if stop is not None:
            self.send_limit[args.dataset] = stop.count
        stopped = False

        def failed(error: ZfsError) -> None:
            nonlocal stopped
            stopped = stop is not None and "Input/output error" in str(error)

        try:
            async with super().open_send(args) as send:
                yield WatchedSend(send, self.moments, failed)
        finally:
            self.send_limit.pop(args.dataset, None)
            if stop is not None and stopped:
                stop.struck()
            elif stop is not None and not self.calm:
                self.faults.add(stop)  # that stream was shorter

    def open_receive(self, args: ReceiveArgs) -> AbstractAsyncContextManager[ZfsReceive]:
        return self._watched_receive(args)

    @asynccontextmanager
    async def _watched_receive(self, args: ReceiveArgs) -> AsyncIterator[ZfsReceive]:
        before = self.listed(args.dataset)
        async with super().open_receive(args) as receive:
            try:
                yield WatchedReceive(
                    receive,
                    self.moments,
                    failed=self._no_room,
                    took_all=partial(self._done, "open_receive", args.dataset),
                )
            finally:
                left = {each.guid for each in self.listed(args.dataset)}
                gone = [each.name for each in before if each.guid not in left]
                if gone and args.force:
                    self.witness.rolled_back(self.host, args.dataset, gone)

    def _no_room(self, error: ZfsError) -> None:
        if isinstance(error, NoSpace):
            for struck in self.full:
                struck()
            self.full.clear()


def _fail_if(part: list[str] | None, call: str, dataset: str = "") -> None:
    """Where no more than a part was to be done."""
    if part is not None:
        raise ZfsError(f"cannot {call}: I/O error", dataset=dataset)


def _those(
    snapshots: Mapping[DatasetPath, Collection[str]], part: list[str] | None
) -> Mapping[DatasetPath, Collection[str]]:
    if part is None:
        return snapshots
    return {path: names for path, names in snapshots.items() if path in part}
