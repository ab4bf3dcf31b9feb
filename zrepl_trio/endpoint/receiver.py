"""The receiving side of a replication, on top of this host's ZFS."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager

import structlog
import trio

from zrepl_trio.endpoint.abstractions import last_received_tag
from zrepl_trio.endpoint.arrival import look_at_arrival
from zrepl_trio.endpoint.blame import cause
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.endpoint.destroy import destroy_listed
from zrepl_trio.endpoint.guarantees import Changes, after_receive, kind_for
from zrepl_trio.endpoint.later import Later
from zrepl_trio.endpoint.marks import marks_by
from zrepl_trio.endpoint.model import (
    Filesystem,
    GuaranteeKind,
    Marks,
    ReceiveRequest,
    ResolveRequest,
    SendRequest,
    Way,
)
from zrepl_trio.endpoint.parents import Parents
from zrepl_trio.endpoint.placeholders import (
    PlaceholderEncryption,
    placeholder_properties,
)
from zrepl_trio.endpoint.protocol import NotSupported, SendReply, StreamSource
from zrepl_trio.endpoint.readback import (
    Received,
    check_range,
)
from zrepl_trio.endpoint.received_properties import (
    ReceivedProperties,
)
from zrepl_trio.endpoint.refusals import Floor, no_floor
from zrepl_trio.endpoint.remembered import Remembered
from zrepl_trio.endpoint.resolving import follow_name, roll_back, set_aside
from zrepl_trio.endpoint.room import comes_raw, empty_placeholder, room_for
from zrepl_trio.endpoint.strangers import check_nothing_below, drop_clone
from zrepl_trio.errors import (
    DatasetBlocked,
    DatasetNotFound,
    PolicyBreach,
    ReceiveInterrupted,
    ReceiveRefused,
    Refused,
    ZfsError,
    ZreplError,
)
from zrepl_trio.pace import Throttle
from zrepl_trio.zfs.failures import is_unforceable
from zrepl_trio.zfs.model import (
    Dataset,
    DestroyResult,
    FilesystemVersion,
    Hold,
    ReceiveArgs,
)
from zrepl_trio.zfs.names import DatasetPath, Identity
from zrepl_trio.zfs.port import Zfs
from zrepl_trio.zfs.targets import WHOLE, TargetRules

__all__ = ["Receiver"]

log = structlog.get_logger()

_ENDING_S = 5.0
_NOTHING_CAME = (ReceiveInterrupted, ReceiveRefused, DatasetBlocked)
"""Errors that leave no doubt; after others `zfs recv` may have taken all in, as when only a property could not be set."""


class Receiver:
    """Endpoint of a `pull` (or sink) job: keeps what it is sent below `root[/identity]`, as
    `targets` say.

    `job` goes into the name of the last-received hold. With `unmounted` nothing received is
    mounted; zrepl mounts as zfs decides. All streams together are taken in as `throttle` lets them. What
    the `floor` keeps, no peer can have destroyed.
    """

    def __init__(
        self,
        zfs: Zfs,
        *,
        job: str,
        root: DatasetPath,
        identity: Identity | None = None,
        targets: TargetRules = WHOLE,
        placeholder_encryption: PlaceholderEncryption = PlaceholderEncryption.UNSPECIFIED,
        properties: ReceivedProperties = ReceivedProperties(),  # noqa: B008 - frozen
        unmounted: bool = True,
        throttle: Throttle | None = None,
        floor: Floor = no_floor,
    ) -> None:
        self._zfs = zfs
        self._job = job
        self._confined = Confinement(root, identity, targets)
        self._parents = Parents(zfs, self._confined, placeholder_encryption)
        self._placeholder_encryption = placeholder_encryption
        self._properties = properties
        self._unmounted = unmounted
        self._throttle = throttle
        self._floor = floor
        self._remembered: Remembered[Dataset] = Remembered(zfs, [self._confined.client_root])
        self._later = Later(zfs, self._remembered)
        self._running: set[trio.Event] = set()
        # placeholders that zfs would not have received over
        self._unforced: set[DatasetPath] = set()
        # what is known to be here: listed last, or received into since then
        self._here: set[DatasetPath] | None = None

    def drop_stale(self) -> bool:
        """See `Remembered`."""
        return self._remembered.drop_stale()

    async def ping(self, message: str) -> str:
        return message

    async def list_filesystems(self) -> list[Filesystem]:
        await self._later.settle()
        # A peer that lost its link may be back before zfs has taken in, and saved, what came: it would
        # be sent again. One that only looks, while a stream comes, has to wait a little.
        if self._running:
            with trio.move_on_after(_ENDING_S):
                for ended in list(self._running):
                    await ended.wait()
        root, client_root = self._confined.root, self._confined.client_root
        try:
            datasets = await self._zfs.datasets([client_root])
        except DatasetNotFound:
            if client_root == root or await self._zfs.dataset(root) is None:
                raise Refused(
                    f"root_fs {root} does not exist: create it (`zfs create {root}`) or import "
                    "its pool"
                ) from None
            datasets = []
        self._here = {dataset.path for dataset in datasets}
        placed = [(dataset, self._confined.wire(dataset.path)) for dataset in datasets]
        self._remembered.expect([dataset for dataset, wire in placed if wire is not None])
        listed = [
            Filesystem(
                path=wire,
                resume_token=dataset.resume_token,
                is_placeholder=dataset.is_placeholder,
                dataset_guid=dataset.source_guid,
                written=dataset.written,
            )
            for dataset, wire in placed
            if wire is not None
        ]
        # Passages: a sender so goes on below what has no place itself.
        passages = self._confined.targets.without_place()
        return [Filesystem(path=wire, is_placeholder=True) for wire in passages] + listed

    @property
    def moves_ranges(self) -> bool:
        return True

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        raise NotSupported("receiver does not implement SendDry()")

    def place(self, filesystem: DatasetPath) -> DatasetPath:
        """Where it puts that filesystem of the sender's; Refused when nowhere."""
        return self._confined.local(filesystem)

    @property
    def tells_places(self) -> bool:
        return True

    async def places_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, DatasetPath | Refused]:
        """See Places; keeps no account."""
        return {path: self._confined.place_or_why_not(path) for path in filesystems}

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        return await self._remembered.of(self._confined.local(filesystem))

    @property
    def lists_in_bulk(self) -> bool:
        return True

    async def list_versions_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, list[FilesystemVersion]]:
        local = {self._confined.local(wire): wire for wire in filesystems}
        listed = await self._remembered.all_of(local)
        return {local[path]: versions for path, versions in listed.items()}

    async def marks_of(
        self, filesystems: Collection[DatasetPath]
    ) -> dict[DatasetPath, Marks | ZreplError]:
        """See TellsMarks."""
        places = {path: self._confined.local(path) for path in filesystems}
        with_holds = self._remembered.with_holds
        return await marks_by(with_holds, places, job=self._job, tag=last_received_tag(self._job))

    async def send_dry(self, request: SendRequest) -> int | None:
        raise NotSupported("receiver does not implement SendDry()")

    def send(self, request: SendRequest) -> AbstractAsyncContextManager[SendReply]:
        raise NotSupported("receiver does not implement Send()")

    async def send_completed(self, request: SendRequest) -> None:
        """Nothing to do on this side."""

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        raise NotSupported("ReplicationCursor not implemented for Receiver")

    async def destroy_size(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> int:
        path = self._confined.local(filesystem)
        names = [version.name for version in snapshots if version.is_snapshot]
        return await self._zfs.destroy_size(path, names) if names else 0

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        path = self._confined.local(filesystem)
        await self._later.settle()
        self._remembered.forget(path)
        return await destroy_listed(self._zfs, path, snapshots, floor=self._floor)

    async def resolve(self, request: ResolveRequest) -> str:
        path = self._confined.local(request.filesystem)
        await self._later.settle()
        self._remembered.forget(path)
        match request.way:
            case Way.ROLLBACK:
                return await roll_back(self._zfs, path, self._job, request, floor=self._floor)
            case Way.KEEP_COPY:
                properties = placeholder_properties(
                    path, client_root=path, encryption=self._placeholder_encryption
                )
                return await set_aside(self._zfs, path, self._job, request, properties)
            case Way.RENAME:
                return await self._follow(path, request)

    async def _follow(self, path: DatasetPath, request: ResolveRequest) -> str:
        olds = [self._confined.local(old) for old in request.old]
        # what is below goes along
        self._remembered.expect(())
        if self._here is not None:
            self._here |= {path, *path.ancestors()}
            for old in olds:
                below = [each for each in self._here if each.is_below(old)]
                self._here |= {path.child(each.relative_to(old)) for each in below}
        return await follow_name(
            self._zfs, path, olds, request, create_parents=self._parents.create
        )

    async def settle(self) -> None:
        await self._later.settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        if not request.to.is_snapshot:
            raise Refused(f"cannot receive {request.to.name!r}: it is not a snapshot")
        path = self._confined.local_snapshot(request.filesystem, request.to.name)
        for version in request.between:
            self._confined.local_snapshot(request.filesystem, version.name)
        try:
            await self._receive(path, request, stream)
        except BaseException:
            # after an error, and after a cancel in the middle of it, nothing is sure any more
            self._remembered.forget(path)
            raise

    async def _receive(
        self, path: DatasetPath, request: ReceiveRequest, stream: StreamSource
    ) -> None:
        if self._here is not None:
            self._here |= {path, *path.ancestors()}
        target = self._remembered.dataset(path)
        if target is None or target.is_placeholder or target.resume_token is not None:
            self._remembered.forget(path)
            target = await self._prepared(path, clear=request.clear_resume_token)
        resuming = target is not None and target.resume_token is not None
        over_placeholder = target is not None and target.is_placeholder
        forced = over_placeholder
        if over_placeholder and not resuming:
            assert target is not None
            await empty_placeholder(self._zfs, path)
            raw = await comes_raw(stream) if request.raw is None else request.raw
            forced = not (raw or target.encrypted or path in self._unforced)
        args = ReceiveArgs(
            dataset=path,
            snapshot=request.to.name,
            packed=bool(request.between),
            # zfs wants -F for the rest of a stream, too, that began over an existing filesystem
            force=forced,
            resumable=(await self._zfs.features()).resumable_receive,
            unmounted=self._unmounted,
            exclude=self._properties.excluded(is_volume=target.is_volume if target else None),
            override=self._properties.set_here(
                source_guid=request.source_guid, over_placeholder=over_placeholder
            ),
        )
        stream.pace.keep_to(self._throttle)
        kind = kind_for(request.protection, initial=target is None)
        fresh = target is None or over_placeholder
        first = fresh or (resuming and not await self._has_snapshots(path))
        before: list[FilesystemVersion] = []
        if request.between:
            if fresh or resuming:
                raise Refused(f"{path} is no replica that a range could go on from")
            if self._here is None:
                listed = await self._zfs.datasets([self._confined.client_root])
                self._here = {dataset.path for dataset in listed}
            before, _ = await self._remembered.with_holds(path)
        what = Received(
            args=args,
            rules=self._properties,
            encryption=self._placeholder_encryption,
            fresh=fresh,
            first=first,
            raw=request.raw,
        )
        try:
            async with room_for(
                self._zfs, path, needed=over_placeholder and not forced, first=first
            ):
                try:
                    await self._take(args, stream)
                except ZreplError as error:
                    if is_unforceable(error):
                        self._unforced.add(path)
                    if first and not request.between:
                        await drop_clone(self._zfs, path)
                    if request.between or not isinstance(error, _NOTHING_CAME):
                        await self._hold_what_came(path, request, kind, what)
                    raise
                if request.between:
                    # which of them came is not known before zfs is asked
                    self._remembered.forget(path)
                    announced = (*request.between, request.to)
                    check_range(path, announced, before, await self._zfs.versions(path))
                    await check_nothing_below(self._zfs, path, self._here or ())
                received = await self._look_at_arrival(path, request.to, what)
            async with self._later.deciding(path):
                _, holds = await self._remembered.with_holds(path)
                await self._hold(path, kind, received, holds)
        except BaseException as error:
            if not isinstance(error, Exception):
                # cancelled, as when the peer has gone: what zfs has taken in is there all the same
                with trio.move_on_after(_ENDING_S, shield=True):
                    await self._hold_what_came(path, request, kind, what)
            raise

    async def _look_at_arrival(
        self, path: DatasetPath, to: FilesystemVersion, what: Received
    ) -> FilesystemVersion:
        return await look_at_arrival(self._zfs, path, to, what, root=self._confined.root)

    async def _hold(
        self,
        path: DatasetPath,
        kind: GuaranteeKind,
        received: FilesystemVersion,
        holds: Sequence[Hold],
    ) -> None:
        """The hold on what was last received moves to `received`."""
        changes = after_receive(job=self._job, kind=kind, received=received, holds=holds)
        self._remembered.did(path, Changes(tag=changes.tag), received)
        await self._later.put_off(path, changes)

    async def _hold_what_came(
        self, path: DatasetPath, request: ReceiveRequest, kind: GuaranteeKind, what: Received
    ) -> None:
        """The same for a receive that failed or was cut off, as far as it came: of a range a part, and all of it if
        the peer went with its last bytes or zfs failed afterwards. Another job may prune here before the peer is back. What goes
        wrong is only logged: there is a better error to raise."""
        guids = {version.guid for version in (*request.between, request.to)}
        self._remembered.forget(path)
        try:
            async with self._later.deciding(path):
                versions, holds = await self._remembered.with_holds(path)
                came = [v for v in versions if v.is_snapshot and v.guid in guids]
                if not came:
                    return
                if came[-1].guid == request.to.guid:
                    await self._look_at_arrival(path, request.to, what)
                await self._hold(path, kind, came[-1], holds)
        except DatasetNotFound:
            return  # nothing came, and there was nothing before
        except (ZfsError, PolicyBreach) as error:
            log.warning("cannot hold what was received", filesystem=str(path), err=str(error))

    async def _has_snapshots(self, path: DatasetPath) -> bool:
        return any(version.is_snapshot for version in await self._zfs.versions(path))

    async def _prepared(self, path: DatasetPath, *, clear: bool) -> Dataset | None:
        """The target as it is once its parents exist and unwanted partial state is gone."""
        target = await self._zfs.dataset(path)
        if target is None:
            await self._parents.create(path)
        elif clear and target.resume_token is not None:
            log.info("partly received state is dropped", filesystem=str(path))
            await self._zfs.abort_receive(path)
            # a replica that was never received whole goes away with its state
            target = await self._zfs.dataset(path)
        return target

    async def _take(self, args: ReceiveArgs, stream: StreamSource) -> None:
        """Feed the stream to `zfs recv`; raises what failed first."""
        failed: ZreplError | None = None
        refused: ZfsError | None = None
        broken = False
        ended = trio.Event()
        self._running.add(ended)
        try:
            async with self._zfs.open_receive(args) as running:
                try:
                    await stream.copy_into(running.writer)
                except trio.BrokenResourceError:
                    broken = True
                except ZreplError as error:
                    failed = error
                try:
                    # also after a failure: its EOF lets `zfs recv -s` save what it has
                    await running.finish()
                except ZfsError as error:
                    refused = error
        finally:
            ended.set()
            self._running.discard(ended)
        why = cause(args.dataset, stream=failed, sink_broken=broken, receive=refused)
        if why is not None:
            raise why
