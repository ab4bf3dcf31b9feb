"""The sending side of a replication, on top of this host's ZFS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from zrepl_trio.endpoint.abstractions import newest_cursor, step_tag
from zrepl_trio.endpoint.destroy import destroy_listed
from zrepl_trio.endpoint.guarantees import Changes, after_confirmation, before_send, kind_for
from zrepl_trio.endpoint.later import Later
from zrepl_trio.endpoint.marks import marks_by
from zrepl_trio.endpoint.model import Filesystem, Marks, ReceiveRequest, SendRequest
from zrepl_trio.endpoint.protect import carry_out
from zrepl_trio.endpoint.protocol import NotSupported, SendReply, StreamSource
from zrepl_trio.endpoint.refusals import Floor, no_floor
from zrepl_trio.endpoint.remembered import Remembered
from zrepl_trio.endpoint.requests import (
    check_encryption,
    check_features,
    check_range,
    check_token,
    check_token_text,
    find_version,
)
from zrepl_trio.endpoint.source import ZfsSource
from zrepl_trio.errors import DatasetNotFound, Refused, ZfsError, ZreplError
from zrepl_trio.pace import Throttle
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import (
    DatasetBrief,
    DestroyResult,
    FilesystemVersion,
    Hold,
    SendArgs,
    SendFlags,
)
from zrepl_trio.zfs.names import DatasetPath, InvalidName
from zrepl_trio.zfs.port import Zfs

__all__ = ["Sender"]


class Sender:
    """Endpoint of a `source` (or push) job: shows and sends what `filesystems` admits.

    `job` goes into the names of holds and cursors; all streams together keep to `throttle`. One
    object serves all connections of a job, so that a send never drops what another one running
    beside it needs. What the `floor` keeps, no peer can have destroyed. `on_unmatched` is told, at each listing, how many entries of the filter name a
    dataset that does not exist.
    """

    def __init__(
        self,
        zfs: Zfs,
        *,
        job: str,
        filesystems: FilesystemFilter,
        flags: SendFlags = SendFlags(),  # noqa: B008 - frozen
        on_unmatched: Callable[[int], None] = lambda _count: None,
        throttle: Throttle | None = None,
        floor: Floor = no_floor,
    ) -> None:
        self._zfs = zfs
        self._job = job
        self._filter = filesystems
        self._flags = flags
        self._on_unmatched = on_unmatched
        self._throttle = throttle
        self._floor = floor
        self._in_use: list[SendRequest] = []
        self._remembered: Remembered[DatasetBrief] = Remembered(zfs, filesystems.roots)
        self._later = Later(zfs, self._remembered)

    def drop_stale(self) -> bool:
        """See `Remembered`."""
        return self._remembered.drop_stale()

    async def ping(self, message: str) -> str:
        return message

    async def list_filesystems(self) -> list[Filesystem]:
        await self._later.settle()
        datasets = await self._zfs.datasets_in(self._filter.extent)
        self._on_unmatched(len(self._filter.unmatched(dataset.path for dataset in datasets)))
        admitted = [dataset for dataset in datasets if self._filter.admits(dataset.path)]
        self._remembered.expect(admitted)
        return [
            Filesystem(
                path=dataset.path,
                is_placeholder=dataset.is_placeholder,
                dataset_guid=dataset.guid,
            )
            for dataset in admitted
        ]

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        return await self._remembered.of(self._check_access(filesystem))

    @property
    def lists_in_bulk(self) -> bool:
        return True

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        for filesystem in filesystems:
            self._check_access(filesystem)
        return await self._remembered.all_of(filesystems)

    async def marks_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, Marks | ZreplError]:
        """See TellsMarks."""
        places = {path: self._check_access(path) for path in filesystems}
        with_holds = self._remembered.with_holds
        return await marks_by(with_holds, places, job=self._job, tag=step_tag(self._job))

    @property
    def moves_ranges(self) -> bool:
        return True

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        args = await self._dry(request)
        sizes = await self._zfs.packed_sizes(args)
        return [sizes.get(version.name) for version in (*request.between, request.to)]

    async def send_dry(self, request: SendRequest) -> int | None:
        args = await self._dry(request)
        if args.from_ is not None and not args.from_.is_snapshot and args.token is None:
            return None  # zfs cannot estimate from a bookmark on all supported versions
        return await self._zfs.send_size(args)

    async def _dry(self, request: SendRequest) -> SendArgs:
        try:
            args, _, _ = await self._validated(request)
        except ZfsError:
            self._remembered.forget(request.filesystem)
            raise
        return args

    @asynccontextmanager
    async def send(self, request: SendRequest) -> AsyncGenerator[SendReply]:
        self._in_use.append(request)
        try:
            async with self._later.deciding(request.filesystem):
                args = await self._protected(request)
            async with self._zfs.open_send(args) as send:
                yield SendReply(
                    used_resume_token=args.token is not None,
                    stream=ZfsSource(send, args.to.full(args.dataset), self._throttle),
                    # nothing else is sent raw of an encrypted dataset: `_validated` sees to it
                    raw=self._flags.encrypted,
                )
        except BaseException:
            # after an error, and after a cancel in the middle of it, nothing is sure any more
            self._remembered.forget(request.filesystem)
            raise
        finally:
            self._in_use = [other for other in self._in_use if other is not request]

    async def _protected(self, request: SendRequest) -> SendArgs:
        args, versions, holds = await self._validated(request)
        changes = before_send(
            dataset=args.dataset,
            job=self._job,
            kind=kind_for(request.protection, initial=args.from_ is None),
            from_=args.from_,
            to=args.to,
            between=request.between,
            versions=versions,
            holds=holds,
            in_use=self._used_by_others(request),
        )
        await self._make(args.dataset, changes, protects=True, at_once=request.at_once)
        return args

    async def send_completed(self, request: SendRequest) -> None:
        dataset = self._check_access(request.filesystem)
        try:
            async with self._later.deciding(dataset):
                await self._completed(dataset, request)
        except BaseException:
            self._remembered.forget(request.filesystem)  # as in `send`
            raise

    async def _completed(self, dataset: DatasetPath, request: SendRequest) -> None:
        versions, holds = await self._remembered.with_holds(dataset)
        # `from_` is not looked for: the first, unheard answer to this may have dropped it
        to = find_version(dataset, request.to, versions)
        changes = after_confirmation(
            dataset=dataset,
            job=self._job,
            kind=kind_for(request.protection, initial=request.from_ is None),
            to=to,
            versions=versions,
            holds=holds,
            in_use=self._used_by_others(request),
        )
        await self._make(dataset, changes, protects=False, at_once=request.at_once)

    async def _make(
        self, dataset: DatasetPath, changes: Changes, *, protects: bool, at_once: bool
    ) -> None:
        """What `protects` a stream that is to come, now; holds that are no longer needed, later unless `at_once`. So
        are the cursor and old bookmarks where zfs changes those of many filesystems at once: until then, what
        protected the stream goes on protecting what came of it."""
        waits = (
            not at_once
            and bool(changes.bookmark or changes.destroy)
            and not self._later.distrusts(dataset)
            and await self._zfs.bookmarks_in_bulk()
        )
        now = Changes(
            tag=changes.tag,
            hold=changes.hold,
            bookmark=() if waits and not protects else changes.bookmark,
            release=changes.release if at_once else (),
            destroy=() if waits else changes.destroy,
        )
        later = Changes(
            tag=changes.tag,
            bookmark=changes.bookmark if waits and not protects else (),
            release=() if at_once else changes.release,
            destroy=changes.destroy if waits else (),
        )
        if await carry_out(self._zfs, dataset, now):
            self._remembered.did(dataset, now)
        else:
            self._remembered.forget(dataset)
        if now.bookmark and not protects:
            self._later.trust(dataset)
        await self._later.put_off(dataset, later)

    async def settle(self) -> None:
        await self._later.settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        raise NotSupported("sender does not implement Receive()")

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        dataset = self._check_access(filesystem)
        await self._later.settle()
        cursor = newest_cursor(await self._remembered.of(dataset), self._job)
        return cursor.guid if cursor is not None else None

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int:
        path = self._check_access(filesystem)
        names = [version.name for version in snapshots if version.is_snapshot]
        return await self._zfs.destroy_size(path, names) if names else 0

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        dataset = self._check_access(filesystem)
        await self._later.settle()
        self._remembered.forget(dataset)
        return await destroy_listed(self._zfs, dataset, snapshots, floor=self._floor, sent_on=True)

    def _check_access(self, filesystem: DatasetPath) -> DatasetPath:
        try:
            dataset = DatasetPath.parse(filesystem)
        except InvalidName as error:
            raise Refused(str(error)) from None
        if not self._filter.admits(dataset):
            raise Refused(
                f"endpoint does not allow access to filesystem {dataset}: "
                f"the `filesystems` of job {self._job!r} do not admit it"
            )
        return dataset

    async def _validated(
        self, request: SendRequest
    ) -> tuple[SendArgs, list[FilesystemVersion], list[Hold]]:
        """The request as our own records have it, and all versions of the dataset with their holds."""
        path = self._check_access(request.filesystem)
        if request.from_ is None:
            # An increment of what has another guid by now, the receiver's zfs does not take; of
            # a full stream it would take anything.
            self._remembered.forget(path)
        dataset: DatasetBrief | None = self._remembered.dataset(path)
        if dataset is None or self._flags.encrypted or self._flags.raw:
            # what must leave encrypted is looked at each time
            dataset = await self._zfs.dataset(path)
        if dataset is None:
            raise DatasetNotFound(f"dataset {path} does not exist", dataset=path)
        versions, holds = await self._remembered.with_holds(path)
        to = find_version(path, request.to, versions)
        if not to.is_snapshot:
            raise Refused(f"{to.full(path)} is a bookmark; only a snapshot can be sent")
        from_ = None if request.from_ is None else find_version(path, request.from_, versions)
        if request.between:
            if request.resume_token is not None:
                raise Refused(f"{path}: a range cannot be resumed, only one snapshot of it")
            check_range(path, from_=from_, between=request.between, to=to, versions=versions)
        check_encryption(path, self._flags, encrypted=dataset.encrypted)
        check_features(
            self._flags, await self._zfs.features(), resuming=request.resume_token is not None
        )
        if request.resume_token is not None:
            token = check_token_text(path, request.resume_token)
            check_token(
                path,
                await self._zfs.decode_token(token),
                from_=from_,
                to=to,
                flags=self._flags,
                encrypted=dataset.encrypted,
            )
        args = SendArgs(
            dataset=path,
            to=to,
            from_=from_,
            token=request.resume_token,
            packed=bool(request.between),
            flags=self._flags,
        )
        return args, versions, holds

    def _used_by_others(self, request: SendRequest) -> list[FilesystemVersion]:
        return [
            version
            for other in self._in_use
            if other is not request and other.filesystem == request.filesystem
            for version in (other.from_, *other.between, other.to)
            if version is not None
        ]
