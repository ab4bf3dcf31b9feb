"""Which copies a set-up is to have: where each dataset that is written to is to arrive, by the jobs' filters and
places, whether or not it ever does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zrepl_trio.config.model import PullJob, PushJob, SinkJob, SourceJob
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.errors import Refused
from zrepl_trio.simulate.datasets import Initial
from zrepl_trio.simulate.hosts import SimulatedHost
from zrepl_trio.simulate.joining import Join
from zrepl_trio.simulate.truth import Origin
from zrepl_trio.zfs.names import DatasetPath, check_identity

__all__ = ["Copy", "copies_to_be"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The replica of `origin` that `host` is to have."""

    host: str
    dataset: DatasetPath
    origin: Origin


@dataclass(frozen=True, slots=True)
class _Way:
    """From the datasets of a host that a filter admits to their places on another."""

    sender: str
    sending: PushJob | SourceJob
    receiver: str
    places: Confinement


def copies_to_be(
    hosts: Sequence[SimulatedHost],
    joins: Sequence[Join],
    initial: Mapping[str, Sequence[Initial]],
) -> list[Copy]:
    """One of each dataset for each join that is to take it there, by way of other hosts, too. What has no place
    there, which the run will tell, has none."""
    ways = list(_ways(hosts, joins))
    there = {
        host: {each.path: Origin(host, each.path) for each in datasets if each.workload is not None}
        for host, datasets in initial.items()
    }
    copies: dict[tuple[int, Origin], Copy] = {}
    more = True
    while more:
        before = len(copies)
        for number, way in enumerate(ways):
            for path, origin in list(there[way.sender].items()):
                # what a copy of a copy leads to again is not asked for
                if (number, origin) in copies or not way.sending.filesystems.admits(path):
                    continue
                place = way.places.place_or_why_not(path)
                if not isinstance(place, Refused):
                    copies[number, origin] = Copy(host=way.receiver, dataset=place, origin=origin)
                    there[way.receiver].setdefault(place, origin)
        more = len(copies) > before
    return list(copies.values())


def _ways(hosts: Sequence[SimulatedHost], joins: Sequence[Join]) -> Iterator[_Way]:
    jobs = {(host.name, job.name): job for host in hosts for job in host.config.jobs}
    for join in joins:
        match jobs[join.host, join.job], jobs[join.peer, join.peer_job]:
            case PushJob() as push, SinkJob() as sink:
                identity = check_identity(join.identity)
                root = DatasetPath.parse(sink.root_fs)
                yield _Way(
                    join.host, push, join.peer, Confinement(root, identity, sink.recv.target)
                )
            case PullJob() as pull, SourceJob() as source:
                root = DatasetPath.parse(pull.root_fs)
                yield _Way(
                    join.peer, source, join.host, Confinement(root, targets=pull.recv.target)
                )
            case other:
                raise AssertionError(f"no two jobs that are ever joined: {other}")
