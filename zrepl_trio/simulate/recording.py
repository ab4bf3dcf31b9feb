"""What is noted while a simulation runs, of each dataset on each host."""

from __future__ import annotations

from dataclasses import dataclass, field

from zrepl_trio.emulate.model import Dataset, Snapshot
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.simulate.pools import SimulatedZfs
from zrepl_trio.simulate.report import Sample
from zrepl_trio.simulate.truth import Kept, Origin, Truth

__all__ = ["Recorder", "Track"]


@dataclass(slots=True)
class Track:
    """One dataset on one host, from its first snapshot on. Lags in seconds, of a replica only:
    `worst_lag_s` and when it was, in seconds from the start; `since_sample_s` the worst since the last
    sample."""

    origin: Origin
    is_replica: bool
    kept: Kept
    samples: list[Sample] = field(default_factory=list)
    most: int = 0
    newest: int | None = None
    first_copy_s: float | None = None
    worst_lag_s: float = 0.0
    worst_at_s: float = 0.0
    since_sample_s: float = 0.0
    received: int = 0
    streams: int = 0

    def behind(self, lag_s: float, at_s: float) -> None:
        """The copy was that much behind, at that time."""
        self.since_sample_s = max(self.since_sample_s, lag_s)
        if lag_s > self.worst_lag_s:
            self.worst_lag_s, self.worst_at_s = lag_s, at_s


class Recorder:
    """Follows all hosts' datasets; `sample` at even intervals, `arrived` at each receive."""

    def __init__(self, clock: SimulatedClock, truth: Truth) -> None:
        self._clock = clock
        self._truth = truth
        self._began_s = int(clock.start.timestamp())
        self.tracks: dict[tuple[str, str], Track] = {}

    def arrived(self, host: str, dataset: str, snapshot: Snapshot, before: Snapshot | None) -> None:
        """A replica has that snapshot now."""
        taken = self._truth.of(snapshot.guid)
        if taken is None:
            return
        track = self._track(host, dataset, taken.origin, is_replica=True)
        track.received += self._truth.sent(before.guid if before else None, snapshot.guid)
        track.streams += 1
        now_s = self._clock.elapsed()
        if track.first_copy_s is None:
            track.first_copy_s = now_s
        elif track.newest is not None:
            track.behind(self._lag(track.newest, now_s), now_s)
        track.newest = snapshot.creation

    def sample(self, zfs: SimulatedZfs) -> None:
        """Note how all datasets of that host are now."""
        now_s = self._clock.elapsed()
        for dataset in zfs.world.all():
            position = zfs.position(dataset.name)
            origin = (
                Origin(zfs.host, dataset.name) if position is not None else self._origin_of(dataset)
            )
            if origin is None:
                continue
            track = self._track(zfs.host, dataset.name, origin, is_replica=position is None)
            guids = [snapshot.guid for snapshot in dataset.snapshots.values()]
            space = track.kept.bytes(guids)
            if position is not None:
                space += self._since_newest(zfs, dataset)
            lag_s: float | None = None
            if track.is_replica and track.newest is not None:
                track.behind(self._lag(track.newest, now_s), now_s)
                lag_s, track.since_sample_s = track.since_sample_s, 0.0
            track.most = max(track.most, len(guids))
            track.samples.append(Sample(round(now_s), len(guids), lag_s, space))

    def _since_newest(self, zfs: SimulatedZfs, dataset: Dataset) -> int:
        assert zfs.world.live_size is not None
        return zfs.world.live_size(zfs.world, dataset)[1]

    def _origin_of(self, dataset: Dataset) -> Origin | None:
        newest = dataset.newest
        taken = self._truth.of(newest.guid) if newest is not None else None
        return taken.origin if taken is not None else None

    def _track(self, host: str, dataset: str, origin: Origin, *, is_replica: bool) -> Track:
        key = (host, dataset)
        if key not in self.tracks:
            self.tracks[key] = Track(origin, is_replica, Kept(self._truth))
        return self.tracks[key]

    def _lag(self, creation: int, now_s: float) -> float:
        return max(0.0, self._began_s + now_s - creation)
