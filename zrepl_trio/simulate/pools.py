"""A host's ZFS in a simulation: the in-memory model, with sizes that are reckoned instead of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import trio

from zrepl_trio.emulate.model import Dataset, Snapshot, World
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.simulate.truth import Origin, Taken, Truth
from zrepl_trio.simulate.workload import Written
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.memory_streams import Checkpoint, MemoryReceive
from zrepl_trio.zfs.model import ReceiveArgs, SendArgs
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["SimulatedZfs"]

_FILE = "position"
"""The one file of each dataset: how much had been written to it."""


class SimulatedZfs(MemoryZfs):
    """The pools of `host`; nothing on them is ever full. Guids come from `seed`.

    What is written to a dataset is reckoned at the moment that somebody looks. `taken` is told of each
    snapshot that was taken, None for one of a dataset that nothing is written to; `arrived` of each that was
    received, with the one before it on the replica, if there is one.
    """

    keeps_versions = True

    def __init__(
        self,
        host: str,
        *,
        seed: str,
        clock: SimulatedClock,
        truth: Truth,
        taken: Callable[[str, Dataset, Taken | None], None],
        arrived: Callable[[str, Dataset, Snapshot, Snapshot | None], None],
        checkpoint: Checkpoint = trio.lowlevel.checkpoint,
    ) -> None:
        super().__init__(
            rng=Random(seed),  # noqa: S311 - nothing secret
            clock=clock,
            checkpoint=checkpoint,
        )
        self.host = host
        self.written: dict[str, Written] = {}
        self._into: dict[MemoryReceive, tuple[str, Snapshot | None]] = {}
        self._truth = truth
        self._taken = taken
        self._arrived = arrived
        self.world.roomy = True
        self.world.live_size = self._live_size

    def write_to(self, dataset: str, written: Written) -> None:
        """From now on, this is written to a filesystem that is there."""
        self.written[dataset] = written

    def position(self, dataset: str) -> int | None:
        """That of a dataset that is written to; None of any other."""
        written = self.written.get(dataset)
        return None if written is None else written.at(trio.current_time())

    def _live_size(self, world: World, dataset: Dataset) -> tuple[int, int]:
        del world
        position = self.position(dataset.name)
        if position is None:
            return 0, 0
        workload = self.written[dataset.name].workload
        newest = dataset.newest
        taken = self._truth.of(newest.guid) if newest is not None else None
        live = int(workload.live(position))
        return live, live if taken is None else int(workload.survives(taken.position, position))

    def _snapshot(
        self, words: Callable[[], Sequence[str]], paths: Sequence[DatasetPath], name: str
    ) -> None:
        positions = {path: self.position(path) for path in paths}
        for path, position in positions.items():
            dataset = self.world.get(path)
            if position is not None and dataset is not None:
                dataset.live = {_FILE: b"%d" % position}
        super()._snapshot(words, paths, name)
        for path, position in positions.items():
            dataset = self.world.open(path)
            taken = None
            if position is not None:
                made = dataset.snapshots[name]
                origin = Origin(self.host, str(path))
                taken = Taken(origin, made.creation, position, self.written[path].workload)
                self._truth.take(made.guid, taken)
            self._taken(self.host, dataset, taken)

    async def send_size(self, args: SendArgs) -> int | None:
        await super().send_size(args)  # refuses what cannot be sent
        base = args.from_
        if base is not None and not base.is_snapshot:
            return None
        return self._truth.sent(base.guid if base is not None else None, args.to.guid) or None

    async def packed_sizes(self, args: SendArgs) -> dict[str, int]:
        sizes = await super().packed_sizes(args)
        assert args.from_ is not None
        guid = args.from_.guid
        snapshots = self.world.open(args.dataset).snapshots
        for name in sizes:
            sizes[name] = self._truth.sent(guid, snapshots[name].guid)
            guid = snapshots[name].guid
        return sizes

    async def _open_receive(self, args: ReceiveArgs) -> MemoryReceive:
        receive = await super()._open_receive(args)
        before = self.world.get(args.dataset)
        self._into[receive] = (args.dataset, before.newest if before is not None else None)
        return receive

    def _end_receive(self, receive: MemoryReceive) -> None:
        super()._end_receive(receive)
        self._tell(*self._into.pop(receive))

    def _tell(self, name: str, newest: Snapshot | None) -> None:
        dataset = self.world.get(name)
        if dataset is None:
            return
        came: list[Snapshot] = []
        for snapshot in reversed(dataset.snapshots.values()):
            if newest is not None and snapshot.guid == newest.guid:
                break
            came.append(snapshot)
        for snapshot in reversed(came):
            self._arrived(self.host, dataset, snapshot, newest)
            newest = snapshot

    async def _enter(self, call: str, dataset: str) -> None:
        # no list of calls, which would grow for a year
        if self.before is not None:
            await self.before(call, dataset)
        await self._checkpoint()
