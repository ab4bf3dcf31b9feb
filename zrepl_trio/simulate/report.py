"""What a simulation found, as values, and as the document that `--json` prints. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from zrepl_trio.replication.report import JsonValue
from zrepl_trio.values import valueclass

__all__ = [
    "CONFLICT",
    "PRUNING",
    "RUN",
    "SNAPSHOT",
    "DatasetStory",
    "FloorStory",
    "LinkStory",
    "LoggedLine",
    "Rung",
    "Sample",
    "SimulationReport",
    "Trouble",
    "ladder_of",
]

CONFLICT, RUN, SNAPSHOT, PRUNING = "conflict", "run", "snapshot", "pruning"
"""The kinds of Trouble."""

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400

RUNGS_S = (
    _HOUR_S,
    _DAY_S,
    7 * _DAY_S,
    30 * _DAY_S,
    91 * _DAY_S,
    365 * _DAY_S,
    5 * 365 * _DAY_S,
)
"""Up to which ages the ladder's rungs reach; what is older is on one more."""


@valueclass(frozen=True, slots=True)
class Sample:
    """A dataset in the time since the last sample, up to `at_s` seconds from the start: how many snapshots it had at
    most, how far the copy was behind at worst (None: no replica, or nothing there yet), and the most bytes that it
    took up, to a hundredth."""

    at_s: int
    snapshots: int
    lag_s: float | None
    space: int


@valueclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Snapshots of an age over `from_s` up to `to_s` (None: without end), and what mostly lies between two."""

    from_s: int
    to_s: int | None
    count: int
    spacing_s: float | None

    def to_json(self) -> JsonValue:
        return {
            "older_than_s": self.from_s,
            "up_to_s": self.to_s,
            "snapshots": self.count,
            "spacing_s": self.spacing_s,
        }


def ladder_of(creations: Iterable[int], now: float) -> tuple[Rung, ...]:
    """How snapshots of those times, in seconds since the epoch, are spread over the ages at `now`."""
    ages = sorted(now - creation for creation in creations)
    rungs = []
    bounds: list[int | None] = [*RUNGS_S, None]
    low = 0
    index = 0
    for bound in bounds:
        first = index
        while index < len(ages) and (bound is None or ages[index] <= bound):
            index += 1
        inside = ages[first:index]
        if inside:
            # with the next older one, so that a single snapshot has a distance, too
            row = ages[first : index + 1]
            gaps = [older - younger for younger, older in itertools.pairwise(row)]
            rungs.append(
                Rung(
                    from_s=low,
                    to_s=bound,
                    count=len(inside),
                    spacing_s=statistics.median(gaps) if gaps else None,
                )
            )
        low = bound or low
    return tuple(rungs)


@valueclass(frozen=True, slots=True, kw_only=True)
class DatasetStory:
    """What became of one dataset on one host. `origin` is where it was written, itself for a source's.
    Times are in seconds from the start; `ages_s` are those of its snapshots, `lag_s` the copy's, at the end. `bytes_received` of
    `streams` counts what came over the network."""

    host: str
    dataset: str
    origin: str
    is_replica: bool
    snapshots: int
    most_snapshots: int
    oldest: datetime | None
    newest: datetime | None
    ladder: tuple[Rung, ...]
    ages_s: tuple[float, ...]
    space: int
    most_space: int
    bytes_received: int = 0
    streams: int = 0
    first_copy_s: float | None = None
    lag_s: float | None = None
    worst_lag_s: float | None = None
    worst_lag_at: datetime | None = None
    samples: tuple[Sample, ...] = ()

    @property
    def is_missing(self) -> bool:
        """Whether it is a copy that there should be and never was; its lag is since the first snapshot that
        there was to copy."""
        return self.is_replica and self.first_copy_s is None

    def to_json(self) -> JsonValue:
        document: dict[str, JsonValue] = {
            "host": self.host,
            "dataset": self.dataset,
            "origin": self.origin,
            "replica": self.is_replica,
            "snapshots": self.snapshots,
            "most_snapshots": self.most_snapshots,
            "oldest": _time(self.oldest),
            "newest": _time(self.newest),
            "ladder": [rung.to_json() for rung in self.ladder],
            "space_bytes": self.space,
            "most_space_bytes": self.most_space,
        }
        if self.is_replica:
            document |= {
                "bytes_received": self.bytes_received,
                "streams": self.streams,
                "first_copy_after_s": self.first_copy_s,
                "lag_s": self.lag_s,
                "worst_lag_s": self.worst_lag_s,
                "worst_lag_at": _time(self.worst_lag_at),
            }
        document["over_time"] = [
            {
                "at_s": sample.at_s,
                "snapshots": sample.snapshots,
                **({"worst_lag_s": sample.lag_s} if self.is_replica else {}),
                "space_bytes": sample.space,
            }
            for sample in self.samples
        ]
        return document


@valueclass(frozen=True, slots=True, kw_only=True)
class LinkStory:
    """One job's way to its peer: how often it ran, how many of these failed, and when it was cut off, in
    seconds from the start."""

    host: str
    job: str
    peer: str
    peer_job: str
    identity: str
    runs: int
    failed: int
    down: tuple[tuple[float, float], ...] = ()

    @property
    def down_s(self) -> float:
        """All of it together."""
        return sum(end - begin for begin, end in self.down)

    def to_json(self) -> JsonValue:
        return {
            "host": self.host,
            "job": self.job,
            "peer": self.peer,
            "peer_job": self.peer_job,
            "identity": self.identity,
            "runs": self.runs,
            "failed": self.failed,
            "down": [{"from_s": begin, "to_s": end} for begin, end in self.down],
            "down_s": self.down_s,
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that did not go by itself: `conflict` on a `filesystem`, `run` of a job or of a filesystem in it,
    `snapshot` that could not be taken, `pruning` that waits for somebody's word. `lasts`: it was there at the
    end, too, so that a person is needed; else it passed by itself."""

    kind: str
    host: str
    job: str
    filesystem: str
    text: str
    times: int
    first: datetime
    last: datetime
    lasts: bool

    def to_json(self) -> JsonValue:
        return {
            "kind": self.kind,
            "host": self.host,
            "job": self.job,
            "filesystem": self.filesystem,
            "text": self.text,
            "times": self.times,
            "first": _time(self.first),
            "last": _time(self.last),
            "needs_a_person": self.lasts,
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class FloorStory:
    """What a client of a serving job wanted destroyed and the job's floor keeps: in `times` requests, `most`
    snapshots in one. Nobody is needed for it."""

    host: str
    job: str
    client: str
    times: int
    most: int
    first: datetime
    last: datetime

    def to_json(self) -> JsonValue:
        return {
            "host": self.host,
            "job": self.job,
            "client": self.client,
            "times": self.times,
            "most_snapshots": self.most,
            "first": _time(self.first),
            "last": _time(self.last),
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class LoggedLine:
    """A warning or error of the daemons' log, and how often it came."""

    level: str
    host: str
    job: str
    text: str
    times: int
    first: datetime
    last: datetime

    def to_json(self) -> JsonValue:
        return {
            "level": self.level,
            "host": self.host,
            "job": self.job,
            "text": self.text,
            "times": self.times,
            "first": _time(self.first),
            "last": _time(self.last),
        }


@valueclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """All that a simulation has to tell; the same for the same seed."""

    seed: int
    hosts: tuple[str, ...]
    start: datetime
    end: datetime
    wire: bool
    notes: tuple[str, ...]
    datasets: tuple[DatasetStory, ...]
    links: tuple[LinkStory, ...]
    troubles: tuple[Trouble, ...]
    logged: tuple[LoggedLine, ...]
    floors: tuple[FloorStory, ...] = ()

    @property
    def needs_a_person(self) -> Sequence[Trouble]:
        """What was still wrong at the end."""
        return [trouble for trouble in self.troubles if trouble.lasts]

    @property
    def replicas(self) -> Sequence[DatasetStory]:
        return [story for story in self.datasets if story.is_replica]

    def at(self, seconds: float) -> datetime:
        """The moment so many seconds after the start."""
        return self.start + timedelta(seconds=seconds)

    def to_json(self) -> JsonValue:
        return {
            "seed": self.seed,
            "hosts": list(self.hosts),
            "start": _time(self.start),
            "end": _time(self.end),
            "wire": self.wire,
            "notes": list(self.notes),
            "links": [link.to_json() for link in self.links],
            "datasets": [story.to_json() for story in self.datasets],
            "troubles": [trouble.to_json() for trouble in self.troubles],
            "left_by_floors": [floor.to_json() for floor in self.floors],
            "logged": [line.to_json() for line in self.logged],
        }


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="seconds").replace("+00:00", "Z")
