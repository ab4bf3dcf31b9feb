"""What is noted while a simulation runs, of each dataset on each host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from zrepl_trio.emulate.model import Dataset, Snapshot
from zrepl_trio.simulate.copies import Copy
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.simulate.pools import SimulatedZfs
from zrepl_trio.simulate.report import Sample
from zrepl_trio.simulate.truth import Kept, Origin, Taken, Truth

__all__ = ["Recorder", "Track"]


_CLOSE = 1.01
"""A peak of space is found to a hundredth: reckoned anew only where it may be as much higher, as it takes a look
at all of a dataset's snapshots, and a year has a hundred thousand of these moments."""


@dataclass(slots=True)
class Track:
    """One dataset on one host, from its first snapshot on; a copy that is to be, from the start. Lags in seconds, of a replica only:
    `worst_lag_s` and when it was, in seconds from the start. What begins with `since_` is the most since the
    last sample. `space` was taken up at the last look and is at most `bound` by now; `position` of a source was
    that at the last look."""

    origin: Origin
    is_replica: bool
    kept: Kept
    samples: list[Sample] = field(default_factory=list)
    most: int = 0
    since_most: int = 0
    space: int = 0
    since_space: int = 0
    bound: int = 0
    position: int = 0
    newest: int | None = None
    first_copy_s: float | None = None
    worst_lag_s: float = 0.0
    worst_at_s: float = 0.0
    since_lag_s: float = 0.0
    received: int = 0
    streams: int = 0

    def behind(self, lag_s: float, at_s: float) -> None:
        """The copy was that much behind, at that time."""
        self.since_lag_s = max(self.since_lag_s, lag_s)
        if lag_s > self.worst_lag_s:
            self.worst_lag_s, self.worst_at_s = lag_s, at_s

    def has(self, dataset: Dataset, grown: int) -> None:
        """A snapshot has come, with at most so many bytes since the last look or snapshot."""
        count = len(dataset.snapshots)
        if count > self.since_most:
            self.since_most = count
        self.bound += grown
        if self.bound > self.since_space * _CLOSE:
            self.takes(self.kept.bytes(_guids(dataset)))

    def takes(self, space: int) -> None:
        """It takes up so many bytes now."""
        self.space = self.bound = space
        self.since_space = max(self.since_space, space)

    def sample(self, at_s: float, count: int, lag_s: float | None) -> None:
        """Note how it was since the last time. Now, `count` snapshots are there, and it is `lag_s` behind, if it is
        a replica of anything."""
        if lag_s is not None:
            self.behind(lag_s, at_s)
            lag_s, self.since_lag_s = self.since_lag_s, 0.0
        most = max(self.since_most, count)
        self.most = max(self.most, most)
        self.samples.append(Sample(round(at_s), most, lag_s, self.since_space))
        self.since_most, self.since_space = count, self.space


class Recorder:
    """Follows all hosts' datasets; `sample` at even intervals, `taken` and `arrived` at each snapshot. `copies` are
    to be, and are followed from the start."""

    def __init__(self, clock: SimulatedClock, truth: Truth, copies: Iterable[Copy] = ()) -> None:
        self._clock = clock
        self._truth = truth
        self._began_s = int(clock.start.timestamp())
        self._firsts: dict[Origin, int] = {}
        self._missing: dict[str, list[Track]] = {}
        self.tracks: dict[tuple[str, str], Track] = {}
        for copy in copies:
            track = self._track(copy.host, copy.dataset, copy.origin, is_replica=True)
            self._missing.setdefault(copy.host, []).append(track)

    def taken(self, host: str, dataset: Dataset, taken: Taken | None) -> None:
        """A snapshot was taken; None: of a replica."""
        if taken is None:
            track = self.tracks.get((host, dataset.name))
            if track is not None:
                track.has(dataset, 0)
            return
        track = self._track(host, dataset.name, taken.origin, is_replica=False)
        self._firsts.setdefault(taken.origin, taken.creation)
        # of what was written some may be there no more
        grown = taken.position - track.position
        track.position = taken.position
        track.has(dataset, grown)

    def arrived(
        self, host: str, dataset: Dataset, snapshot: Snapshot, before: Snapshot | None
    ) -> None:
        """A replica has that snapshot now."""
        taken = self._truth.of(snapshot.guid)
        if taken is None:
            return
        track = self._track(host, dataset.name, taken.origin, is_replica=True)
        came = self._truth.sent(before.guid if before else None, snapshot.guid)
        track.received += came
        track.streams += 1
        now_s = self._clock.elapsed()
        lag_s = self.lag(track, now_s)
        if lag_s is not None:
            track.behind(lag_s, now_s)
        if track.first_copy_s is None:
            track.first_copy_s = now_s
        track.newest = snapshot.creation
        track.has(dataset, came)

    def sample(self, zfs: SimulatedZfs, at_s: float) -> None:
        """Note how all datasets of that host are now, as of `at_s`, to which nothing more happens."""
        for dataset in zfs.world.all():
            position = zfs.position(dataset.name)
            origin = (
                Origin(zfs.host, dataset.name) if position is not None else self._origin_of(dataset)
            )
            if origin is None:
                continue
            track = self._track(zfs.host, dataset.name, origin, is_replica=position is None)
            space = track.kept.bytes(_guids(dataset))
            if position is not None:
                space += self._since_newest(zfs, dataset)
                track.position = position
            track.takes(space)
            track.sample(at_s, len(dataset.snapshots), self.lag(track, at_s))
        if missing := self._missing.get(zfs.host):
            self._missing[zfs.host] = [each for each in missing if each.first_copy_s is None]
            for track in self._missing[zfs.host]:
                track.sample(at_s, 0, self.lag(track, at_s))

    def lag(self, track: Track, at_s: float) -> float | None:
        """By how much it is behind then: without any copy, since the first snapshot that there was to copy. None for
        what is no replica, or has nothing to copy."""
        if not track.is_replica:
            return None
        since = track.newest if track.newest is not None else self._firsts.get(track.origin)
        return None if since is None else max(0.0, self._began_s + at_s - since)

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


def _guids(dataset: Dataset) -> list[int]:
    return [snapshot.guid for snapshot in dataset.snapshots.values()]
