"""Plans the pruning of one or both sides of a job: lists, asks for cursors, has it judged. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace

import structlog
import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.endpoint.protocol import Endpoint, MeasuresDestroys
from zrepl_trio.errors import TransportError, ZreplError, leaves
from zrepl_trio.pruning.plan import (
    Base,
    FilesystemPrune,
    PruneSide,
    PruningPolicy,
    base_on_receiver,
    base_on_sender,
    judge,
    may_go,
    misleading,
)
from zrepl_trio.replication.classify import main_error
from zrepl_trio.replication.listing import Listing, versions_of_each
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, date_of, in_order
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Planner", "Side", "SidePlan"]

ASKED_AT_ONCE = 4
"""How many cursors are asked for at a time."""

_JUDGED_AT_A_GO = 1000
"""Snapshots, some ten milliseconds' worth."""

_NO_CURSOR = (
    "{}: the job's replication cursor is not on the sender, so nobody knows what is replicated: "
    "nothing is destroyed until a replication of it has succeeded"
)

_FUTURE = (
    "{}: {} has the time {}, which is yet to come, and by it others are too old: nothing is "
    "destroyed; set the clock that is wrong, and destroy that snapshot, on both sides, if it is not this "
    "host's"
)

log = structlog.get_logger()


@valueclass(frozen=True, slots=True, kw_only=True)
class SidePlan:
    """What would be destroyed on one side; `error` is what keeps it from being told."""

    policy: PruningPolicy
    filesystems: tuple[FilesystemPrune, ...] = ()
    error: str = ""
    sizes: Mapping[DatasetPath, int | None] = field(default_factory=dict)
    """Bytes that it would free, of each with something going; None where the side cannot tell."""


class _Turns:
    """Lets others have their turn each time so many snapshots have been judged: a million take a while."""

    def __init__(self) -> None:
        self._judged = 0

    async def before(self, versions: Sequence[FilesystemVersion] | ZreplError) -> None:
        """These are judged next."""
        self._judged += 1 if isinstance(versions, ZreplError) else 1 + len(versions)
        if self._judged >= _JUDGED_AT_A_GO:
            self._judged = 0
            await trio.lowlevel.checkpoint()


class Side:
    """One endpoint, listed when it is first asked, and not at all if it is known to be `down`."""

    def __init__(self, endpoint: Endpoint, down: ZreplError | None = None) -> None:
        self.endpoint = endpoint
        self._filesystems: list[Filesystem] | ZreplError | None = down
        self._versions: Listing = {}

    async def filesystems(self) -> list[Filesystem]:
        if self._filesystems is None:
            try:
                self._filesystems = await self.endpoint.list_filesystems()
            except* ZreplError as group:
                self._filesystems = main_error(leaves(group))
        if isinstance(self._filesystems, ZreplError):
            raise self._filesystems
        return self._filesystems

    async def versions(self, paths: Collection[DatasetPath]) -> Listing:
        missing = [path for path in paths if path not in self._versions]
        if missing:
            found = await versions_of_each(self.endpoint, missing)
            for path in missing:
                listed = found.get(path, [])
                # what is older than the cursor is told by the order, which no peer is trusted for
                self._versions[path] = (
                    listed if isinstance(listed, ZreplError) else in_order(listed)
                )
        return {path: self._versions[path] for path in paths}

    def destroyed(self, path: DatasetPath, names: Collection[str]) -> None:
        versions = self._versions.get(path)
        if isinstance(versions, list):
            self._versions[path] = [
                version
                for version in versions
                if not (version.name in names and version.is_snapshot)
            ]


class Planner:
    """Of one run; a snap job's has no `receiver`. Each side is listed once, when it is needed.

    `receiver_down` is why the receiver cannot be reached, where that is known: it is not tried once more. The
    sender is planned all the same."""

    def __init__(
        self,
        *,
        sender: Endpoint,
        receiver: Endpoint | None,
        clock: WallClock,
        receiver_down: ZreplError | None = None,
    ) -> None:
        self._sender = Side(sender)
        self._receiver = Side(receiver, receiver_down) if receiver is not None else None
        self._clock = clock
        self._cursors: dict[DatasetPath, int | ZreplError | None] = {}

    async def plan(self, policy: PruningPolicy) -> SidePlan:
        """What pruning by that policy would do now."""
        filesystems: Sequence[FilesystemPrune] = ()
        error = ""
        try:
            filesystems = await self._plan(policy)
        except* ZreplError as group:
            error = str(main_error(leaves(group)))
        return SidePlan(policy=policy, filesystems=tuple(filesystems), error=error)

    async def measured(self, planned: SidePlan) -> SidePlan:
        """The same with what it would free."""
        endpoint = self.target(planned.policy).endpoint
        sizes: dict[DatasetPath, int | None] = {}
        for each in planned.filesystems:
            if each.going:
                sizes[each.path] = await _size(endpoint, each)
        return replace(planned, sizes=sizes)

    def target(self, policy: PruningPolicy) -> Side:
        """The side that the policy prunes."""
        if policy.side is PruneSide.RECEIVER:
            assert self._receiver is not None
            return self._receiver
        return self._sender

    async def _plan(self, policy: PruningPolicy) -> list[FilesystemPrune]:
        target = self.target(policy)
        listed = sorted(await target.filesystems(), key=lambda each: each.path.components)
        offered = {each.path for each in await self._sender.filesystems()}
        skipped = {each.path: _why_skipped(each, offered) for each in listed}
        todo = [path for path, why in skipped.items() if not why]
        versions = await target.versions(todo)
        at_most: dict[DatasetPath, set[int]] = {}
        turns = _Turns()
        for path in todo:
            await turns.before(versions[path])
            at_most[path] = _may_go(versions[path], policy)
        bases = await self._bases(policy, [path for path in todo if at_most[path]], versions)
        now = self._clock.now().timestamp()
        planned: list[FilesystemPrune] = []
        for path, why in skipped.items():
            await turns.before(versions.get(path, ()))
            planned.append(
                FilesystemPrune(path=path, skipped=why)
                if why
                else _judged(path, versions[path], policy, bases.get(path), at_most[path], now)
            )
        return planned

    async def _bases(
        self, policy: PruningPolicy, paths: Sequence[DatasetPath], versions: Listing
    ) -> dict[DatasetPath, Base | str]:
        """Of each, or why it cannot be told."""
        if self._receiver is None:
            return {}
        await self._ask_cursors([path for path in paths if path not in self._cursors])
        on_sender = policy.side is PruneSide.SENDER
        others = (
            await self._seen(self._receiver, paths)
            if on_sender
            else await self._sender.versions(paths)
        )
        bases: dict[DatasetPath, Base | str] = {}
        for path in paths:
            cursor, ours, theirs = self._cursors[path], versions[path], others.get(path)
            assert not isinstance(ours, ZreplError)
            if isinstance(cursor, ZreplError):
                bases[path] = f"its cursor: {cursor}"
            elif isinstance(theirs, ZreplError):
                # what the two have in common might be older than the cursor
                bases[path] = f"its snapshots on the sender cannot be listed: {theirs}"
            elif on_sender:
                bases[path] = base_on_sender(cursor, ours, theirs)
            else:
                bases[path] = base_on_receiver(cursor, ours, theirs)
        return bases

    async def _ask_cursors(self, paths: Sequence[DatasetPath]) -> None:
        if not paths:
            return
        todo = iter(paths)
        broken: list[ZreplError] = []

        async def ask(scope: trio.CancelScope) -> None:
            for path in todo:  # shared: each task takes the next one
                try:
                    self._cursors[path] = await self._sender.endpoint.replication_cursor(path)
                except* TransportError as group:
                    broken.extend(leaves(group))
                    scope.cancel()
                except* ZreplError as group:
                    self._cursors[path] = main_error(leaves(group))

        async with trio.open_nursery() as nursery:
            for _ in range(min(ASKED_AT_ONCE, len(paths)) - 1):
                nursery.start_soon(ask, nursery.cancel_scope)
            await ask(nursery.cancel_scope)
        if broken:
            raise broken[0]

    async def _seen(self, side: Side, paths: Sequence[DatasetPath]) -> Listing:
        """What that side has of each, as far as it can be asked now: a receiver that is down, or cannot
        list a replica, keeps no sender from pruning."""
        listed: Listing = {}
        try:
            there = {each.path for each in await side.filesystems() if not each.is_placeholder}
            listed = await side.versions([path for path in paths if path in there])
            listed |= {path: [] for path in paths if path not in there}
        except* ZreplError as group:
            log.info("the other side cannot be asked", err=str(main_error(leaves(group))))
        return {path: found for path, found in listed.items() if isinstance(found, list)}


async def _size(endpoint: Endpoint, planned: FilesystemPrune) -> int | None:
    if not isinstance(endpoint, MeasuresDestroys):
        return None
    size: int | None = None
    try:
        size = await endpoint.destroy_size(planned.path, planned.going)
    except* ZreplError as group:
        log.info("cannot tell what it would free", err=str(main_error(leaves(group))))
    return size


def _why_skipped(filesystem: Filesystem, offered: Collection[DatasetPath]) -> str:
    """zrepl's words; empty when it is not."""
    if filesystem.is_placeholder:
        return "filesystem is placeholder"
    if filesystem.path not in offered:
        return "filesystem has no correspondence on sender"
    return ""


def _may_go(versions: list[FilesystemVersion] | ZreplError, policy: PruningPolicy) -> set[int]:
    return set() if isinstance(versions, ZreplError) else may_go(versions, policy)


def _judged(
    path: DatasetPath,
    versions: list[FilesystemVersion] | ZreplError,
    policy: PruningPolicy,
    base: Base | str | None,
    at_most: set[int],
    now: float,
) -> FilesystemPrune:
    if isinstance(versions, ZreplError):
        why = f"its snapshots cannot be listed: {versions}"
        return FilesystemPrune(path=path, error=f"{path}: {why}")
    if isinstance(base, str):
        return FilesystemPrune(path=path, error=f"{path}: {base}")
    if base is not None and base.cursor is None:
        return FilesystemPrune(path=path, error=_NO_CURSOR.format(path))
    judged = FilesystemPrune(path=path, judgements=judge(versions, policy, base, at_most))
    if judged.going and (ahead := misleading(versions, policy, now)):
        date = date_of(ahead.creation).date().isoformat()
        return FilesystemPrune(path=path, error=_FUTURE.format(path, ahead.relative, date))
    return judged
