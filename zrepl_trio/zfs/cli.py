"""`CliZfs`: the `zfs` commands behind the `Zfs` port; its bookmarks are those of `zfs.bookmarks`.

Listings are parsed as they come, so that 100,000 snapshots cost no buffer of their text. Calls are
independent processes; nothing is cached but the features.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from zrepl_trio.children import argument_bytes
from zrepl_trio.errors import DatasetBlocked, DatasetNotFound, ZfsError
from zrepl_trio.process import Processes
from zrepl_trio.zfs import argv, streams
from zrepl_trio.zfs.batches import chunked, destroy_failures, harmless_refusals
from zrepl_trio.zfs.blocked import check_not_blocked
from zrepl_trio.zfs.bookmarks import Bookmarks
from zrepl_trio.zfs.commands import Commands, text
from zrepl_trio.zfs.failures import failure, misses_only, unexpected_output
from zrepl_trio.zfs.features import detect_features
from zrepl_trio.zfs.filter import Extent
from zrepl_trio.zfs.library import Library
from zrepl_trio.zfs.limits import ZfsLimits
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
from zrepl_trio.zfs.parse import (
    BriefRows,
    DatasetRows,
    HoldRows,
    PropertyRows,
    Unexpected,
    VersionRows,
    parse_destroy_size,
    parse_packed_sizes,
    parse_resume_token,
    parse_send_size,
)
from zrepl_trio.zfs.port import ZfsReceive, ZfsSend

__all__ = ["CliZfs"]

_TAG_EXISTS = ("tag already exists on this dataset",)
_NO_TAG = ("no such tag on this dataset", "dataset does not exist")


class CliZfs:
    """ZFS by its commands, which `processes` runs with LC_ALL=C; `zfs` is the program's name
    or path. What does nothing for longer than `limits` allow is killed, and an error names it."""

    def __init__(
        self,
        processes: Processes,
        *,
        zfs: str = "zfs",
        limits: ZfsLimits = ZfsLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._processes = processes
        self._commands = Commands(processes, zfs=zfs, limits=limits)
        self._limits = limits
        self._bookmarks = Bookmarks(
            self._commands,
            Library(processes, zfs=zfs, command_s=limits.command_s),
            versions=self.versions,
            properties_of=self.properties_of,
        )
        self._features: Features | None = None
        self._detecting = trio.Lock()

    async def features(self) -> Features:
        async with self._detecting:
            if self._features is None:
                self._features = await detect_features(self._commands.run)
            return self._features

    # -- listing ---------------------------------------------------------------------------

    async def datasets(self, roots: Sequence[DatasetPath] = ()) -> list[Dataset]:
        found: dict[DatasetPath, Dataset] = {}
        for root in roots or (None,):
            rows = DatasetRows()
            listed = await self._commands.stream(
                argv.list_datasets(root), rows, rows.result, dataset=root or ""
            )
            for each in listed:
                found.setdefault(each.path, each)
        return list(found.values())

    async def datasets_in(self, extent: Extent) -> list[DatasetBrief]:
        asked = [(batch, True) for batch in chunked(extent.subtrees, 0)]
        asked += [(batch, False) for batch in chunked(extent.alone, 0)]
        found: list[DatasetBrief] = []
        if extent.everything:
            asked = [([], True)]
        for paths, below in asked:
            rows = BriefRows()
            words = argv.list_briefly(paths, below=below)
            found += await self._commands.stream(
                words, rows, rows.result, dataset="", optional=paths
            )
        return found

    async def dataset(self, path: DatasetPath) -> Dataset | None:
        check_not_blocked(self._processes, path)
        rows = DatasetRows()
        try:
            found = await self._commands.stream(
                argv.list_dataset(path), rows, rows.result, dataset=path
            )
        except DatasetNotFound:
            return None
        if len(found) != 1 or found[0].path != path:
            raise unexpected_output(argv.list_dataset(path), "not one dataset", dataset=path)
        return found[0]

    async def versions(self, path: DatasetPath) -> list[FilesystemVersion]:
        check_not_blocked(self._processes, path)
        rows = VersionRows()
        words = argv.list_versions(path)
        found = await self._commands.stream(words, rows, rows.result, dataset=path)
        if found.keys() - {path}:
            raise unexpected_output(words, "versions of another dataset", dataset=path)
        return found.get(path, [])

    async def versions_below(
        self, roots: Sequence[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        found: dict[DatasetPath, list[FilesystemVersion]] = {}
        for root in roots:
            rows = VersionRows()
            found |= await self._commands.stream(
                argv.list_versions_below(root), rows, rows.result, dataset=root
            )
        return found

    async def properties(self, path: DatasetPath, names: Sequence[str]) -> dict[str, Property]:
        return (await self.properties_of([path], names))[path]

    async def properties_of(
        self, paths: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, Property]]:
        rows = PropertyRows(names)
        words = argv.get_properties(paths, names)
        check_not_blocked(self._processes, paths[0])
        await self._commands.stream(words, rows, lambda: None, dataset=paths[0])
        for path in paths:
            missing = [name for name in names if name not in rows.of(path)]
            if missing:
                raise unexpected_output(words, f"no row for {', '.join(missing)}", dataset=path)
        return {path: {name: rows.of(path)[name] for name in names} for path in paths}

    # -- datasets, snapshots, bookmarks ----------------------------------------------------

    async def set_properties(self, path: DatasetPath, values: Mapping[str, str]) -> None:
        if values:
            await self._commands.do(argv.set_properties(path, values), path)

    async def create_filesystem(self, path: DatasetPath, properties: Mapping[str, str]) -> None:
        await self._commands.do(argv.create_filesystem(path, properties), path)

    async def rename(self, old: DatasetPath, new: DatasetPath) -> None:
        check_not_blocked(self._processes, new)
        await self._commands.do(argv.rename(old, new), old)

    async def destroy_filesystem(self, path: DatasetPath) -> None:
        await self._commands.do(argv.destroy_filesystem(path), path)

    async def snapshot(self, path: DatasetPath, name: str) -> None:
        await self._commands.do(argv.snapshot(path, name), path)

    @property
    def argument_bytes(self) -> int:
        return argument_bytes()

    async def snapshot_all(self, paths: Sequence[DatasetPath], name: str) -> None:
        for path in paths[1:]:
            check_not_blocked(self._processes, path)
        await self._commands.do(argv.snapshot_all(paths, name), paths[0])

    async def rollback(
        self, path: DatasetPath, snapshot: str, *, destroy_newer: bool = True
    ) -> None:
        await self._commands.do(argv.rollback(path, snapshot, destroy_newer=destroy_newer), path)

    async def bookmark(self, path: DatasetPath, snapshot: FilesystemVersion, name: str) -> None:
        await self._bookmarks.make(path, snapshot, name)

    async def destroy_bookmark(self, path: DatasetPath, name: str) -> None:
        await self._bookmarks.destroy(path, name)

    async def bookmarks_in_bulk(self) -> bool:
        return await self._bookmarks.in_bulk()

    async def change_bookmarks(
        self,
        make: Mapping[DatasetPath, Mapping[str, FilesystemVersion]],
        destroy: Mapping[DatasetPath, Collection[str]],
    ) -> None:
        for path in (*make, *destroy):
            check_not_blocked(self._processes, path)
        await self._bookmarks.change(make, destroy)

    async def destroy_snapshots(
        self, path: DatasetPath, names: Sequence[str]
    ) -> list[DestroyResult]:
        errors: dict[str, str] = {}
        if len(names) > 1 and (await self.features()).comma_destroy:
            for batch in chunked(sorted(set(names)), 1):
                await self._destroy_batch(path, batch, errors)
        else:
            for name in names:
                errors[name] = await self._destroy_one(path, name)
        return [DestroyResult(name, errors[name]) for name in names]

    async def _destroy_batch(
        self, path: DatasetPath, names: list[str], errors: dict[str, str]
    ) -> None:
        """Destroy at once; those that zfs names as in the way are left out and tried alone, so that
        each gets its own reason."""
        words = argv.destroy_snapshots(path, names)
        try:
            done = await self._commands.run(words, dataset=path)
        except ZfsError as error:
            if not _too_long(error) or len(names) == 1:
                raise
            half = len(names) // 2
            await self._destroy_batch(path, names[:half], errors)
            await self._destroy_batch(path, names[half:], errors)
            return
        if done.status == 0:
            errors.update(dict.fromkeys(names, ""))
            return
        if misses_only(done.status, text(done.stderr), {path}):
            gone = failure(words, done.status, text(done.stderr), dataset=path)
            errors.update(dict.fromkeys(names, str(gone)))
            return
        refused = destroy_failures(text(done.stderr), path)
        rest = [] if refused is None else [name for name in names if name not in refused]
        if rest and len(rest) < len(names):
            again = await self._commands.run(argv.destroy_snapshots(path, rest), dataset=path)
            if again.status == 0:
                errors.update(dict.fromkeys(rest, ""))
                names = [name for name in names if name not in errors]
        for name in names:
            errors[name] = await self._destroy_one(path, name)

    async def _destroy_one(self, path: DatasetPath, name: str) -> str:
        try:
            await self._commands.do(argv.destroy_snapshots(path, [name]), path)
        except DatasetNotFound as error:
            # one that was renamed has its snapshots still
            return str(error) if misses_only(error.status or 0, error.stderr, {path}) else ""
        except DatasetBlocked:
            raise
        except ZfsError as error:
            return str(error)
        return ""

    async def destroy_size(self, path: DatasetPath, names: Sequence[str]) -> int:
        size = 0
        # what only snapshots of two batches together have, is counted for neither
        for batch in chunked(sorted(set(names)), 1):
            try:
                done = await self._commands.do(argv.destroy_size(path, batch), path)
            except DatasetNotFound:
                continue
            size += parse_destroy_size(text(done.stdout))
        return size

    # -- holds -----------------------------------------------------------------------------

    async def holds(self, path: DatasetPath, snapshots: Collection[str]) -> list[Hold]:
        return (await self.holds_of({path: snapshots})).get(path, [])

    async def holds_of(
        self, snapshots: Mapping[DatasetPath, Collection[str]]
    ) -> dict[DatasetPath, list[Hold]]:
        wanted = {f"{path}@{name}": (path, name) for path, of in snapshots.items() for name in of}
        for path in snapshots:
            check_not_blocked(self._processes, path)
        one = next(iter(snapshots), "") if len(snapshots) == 1 else ""
        found: dict[DatasetPath, list[Hold]] = {}
        for batch in chunked(list(wanted), 0):
            rows = HoldRows(wanted)
            words = argv.list_holds(batch)
            for hold in await self._commands.stream(words, rows, rows.result, dataset=one):
                found.setdefault(hold.dataset, []).append(hold)
        return found

    async def hold(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        for batch in chunked(list(snapshots), len(path) + 1):
            rest = batch
            while rest:
                words = argv.hold(_full(path, rest), tag)
                rest = await self._without_refused(words, path, rest, _TAG_EXISTS)

    async def release(self, path: DatasetPath, snapshots: Collection[str], tag: str) -> None:
        for batch in chunked(list(snapshots), len(path) + 1):
            rest = batch
            while rest:
                words = argv.release(_full(path, rest), tag)
                try:
                    rest = await self._without_refused(words, path, rest, _NO_TAG)
                except DatasetNotFound:
                    if await self.dataset(path) is not None:
                        raise
                    return

    async def hold_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        if not await self._all_at_once(argv.hold, snapshots, tag):
            for path, names in snapshots.items():
                await self.hold(path, names, tag)

    async def release_of(self, snapshots: Mapping[DatasetPath, Collection[str]], tag: str) -> None:
        if not await self._all_at_once(argv.release, snapshots, tag):
            for path, names in snapshots.items():
                await self.release(path, names, tag)

    async def _all_at_once(
        self,
        words: Callable[[Iterable[str], str], argv.Argv],
        snapshots: Mapping[DatasetPath, Collection[str]],
        tag: str,
    ) -> bool:
        """Whether it went well; if not, each dataset by itself gets its own reason."""
        for path in snapshots:
            check_not_blocked(self._processes, path)
        full = [name for path, names in snapshots.items() for name in _full(path, names)]
        for batch in chunked(full, 0):
            if (await self._commands.run(words(batch, tag))).status != 0:
                return False
        return True

    async def _without_refused(
        self, words: argv.Argv, path: DatasetPath, names: list[str], fine: Sequence[str]
    ) -> list[str]:
        """Run a hold or release; which names still need it.

        zfs holds all or none and releases what it can, so what it refused for a `fine` reason is
        left out and the rest tried again: right for both.
        """
        done = await self._commands.run(words, dataset=path)
        if done.status == 0:
            return []
        said = text(done.stderr)
        refused = harmless_refusals(said, path, fine)
        rest = [name for name in names if refused is None or name not in refused]
        if len(rest) == len(names):
            raise failure(words, done.status, said, dataset=path)
        return rest

    # -- sending and receiving -------------------------------------------------------------

    async def abort_receive(self, path: DatasetPath) -> None:
        words = argv.abort_receive(path)
        done = await self._commands.run(words, dataset=path)
        said = text(done.stderr)
        if done.status == 0 or "does not have any resumable receive state to abort" in said:
            return
        error = failure(words, done.status, said, dataset=path)
        if not isinstance(error, DatasetNotFound):
            raise error

    async def send_size(self, args: SendArgs) -> int | None:
        if args.token is None and args.from_ and args.from_.kind is VersionKind.BOOKMARK:
            return None
        words = argv.send_dry(args)
        done = await self._commands.do(words, args.dataset)
        try:
            return parse_send_size(text(done.stdout + done.stderr))
        except Unexpected as problem:
            raise unexpected_output(words, str(problem), dataset=args.dataset) from problem

    async def packed_sizes(self, args: SendArgs) -> dict[str, int]:
        done = await self._commands.do(argv.send_dry(args), args.dataset)
        return parse_packed_sizes(text(done.stdout + done.stderr))

    async def decode_token(self, token: str) -> ResumeToken:
        words = argv.decode_token(token)
        # The status is not asked: zfs also fails when the snapshot is gone, having said it all.
        done = await self._commands.run(words)
        said = text(done.stdout + done.stderr)
        try:
            return parse_resume_token(said)
        except Unexpected as problem:
            if done.status != 0:
                raise failure(words, done.status, text(done.stderr), dataset="") from problem
            raise unexpected_output(words, str(problem)) from problem

    def open_send(self, args: SendArgs) -> AbstractAsyncContextManager[ZfsSend]:
        return self._open_send(args)

    @asynccontextmanager
    async def _open_send(self, args: SendArgs) -> AsyncIterator[ZfsSend]:
        check_not_blocked(self._processes, args.dataset)
        words = self._commands.program(argv.send(args))
        async with streams.open_send(
            self._processes, words, args.dataset, self._limits.stream_s
        ) as send:
            yield send

    def open_receive(self, args: ReceiveArgs) -> AbstractAsyncContextManager[ZfsReceive]:
        return self._open_receive(args)

    @asynccontextmanager
    async def _open_receive(self, args: ReceiveArgs) -> AsyncIterator[ZfsReceive]:
        check_not_blocked(self._processes, args.dataset)
        words = self._commands.program(argv.receive(args))
        async with streams.open_receive(
            self._processes, words, args.dataset, self._limits.stream_s
        ) as receive:
            yield receive


def _full(path: DatasetPath, names: Iterable[str]) -> list[str]:
    return [f"{path}@{name}" for name in names]


def _too_long(error: ZfsError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.E2BIG
