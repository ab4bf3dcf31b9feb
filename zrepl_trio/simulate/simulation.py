"""A simulation put together and run: the daemon's own jobs of all hosts, on one clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import partial
from random import Random
from typing import Protocol

import structlog
import trio

from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor
from zrepl_trio.jobs.world import World
from zrepl_trio.logs.events import Dispatcher, Outlet, logging_to
from zrepl_trio.logs.lines import Entry, Format, Level, render
from zrepl_trio.simulate.copies import copies_to_be
from zrepl_trio.simulate.datasets import Initial, initial_datasets
from zrepl_trio.simulate.determinism import SimulatedClock, run_deterministically
from zrepl_trio.simulate.hosts import SimulatedHost
from zrepl_trio.simulate.joining import Join
from zrepl_trio.simulate.network import Network
from zrepl_trio.simulate.outages import Outage, Windows
from zrepl_trio.simulate.pools import SimulatedZfs
from zrepl_trio.simulate.recording import Recorder, Track
from zrepl_trio.simulate.report import (
    DatasetStory,
    LinkStory,
    SimulationReport,
    ladder_of,
)
from zrepl_trio.simulate.truth import Truth
from zrepl_trio.simulate.watching import HostWatch, LogCounts, Runs
from zrepl_trio.simulate.workload import WorkloadSpec, Written

__all__ = ["SAMPLES", "Setup", "simulate"]

SAMPLES = 365
"""How often all datasets are looked at: once a day in a year."""


_JUST_BEFORE_S = 0.001
"""Samples are taken that much before their times: at them jobs may be at work, and how far these have come then is
another matter by the wire."""


def _no_progress(_share: float) -> None:
    return


class Log(Protocol):
    """Where lines go; what cannot be written is no error here."""

    def write(self, text: str, /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is simulated. `zone` is that of outages and of the hours of workloads; `start` is in UTC. `log` gets
    every line of the daemons' logs from level info on. `notes` are for the report."""

    hosts: Sequence[SimulatedHost]
    joins: Sequence[Join]
    start: datetime
    lasts_s: int
    zone: tzinfo
    seed: int = 1
    wire: bool = False
    workloads: Sequence[WorkloadSpec] = ()
    outages: Sequence[Outage] = ()
    notes: Sequence[str] = ()
    log: Log | None = None
    progress: Callable[[float], None] = _no_progress


def simulate(setup: Setup) -> SimulationReport:
    """Run it to its end. The same setup gives the same report, and the same log to the byte.

    Raises Refused for what cannot be simulated; `progress` is told the share of the time that has passed.
    """
    plant = _Plant(setup)
    with logging_to(plant.dispatcher):
        run_deterministically(plant.run, seed=setup.seed)
    return plant.report()


class _Plant:
    """All hosts at rest, and what is noted of them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._clock = SimulatedClock(setup.start)
        self._truth = Truth()
        self._watches = {host.name: HostWatch(host.name, self._clock) for host in setup.hosts}
        self._counts = LogCounts()
        self._end = setup.start + timedelta(seconds=setup.lasts_s)
        self._windows = _windows(setup.outages, setup.start, self._end, setup.zone)
        self._network = Network(setup.joins, self._windows, wire=setup.wire)
        self._initial = initial_datasets(setup.hosts, setup.workloads)
        copies = copies_to_be(setup.hosts, setup.joins, self._initial)
        self._recorder = Recorder(self._clock, self._truth, copies)
        self._pools: dict[str, SimulatedZfs] = {}
        self._over = False
        self.dispatcher = self._logging()

    def _logging(self) -> Dispatcher:
        dispatcher = Dispatcher(self._clock)
        log = self._setup.log
        if log is not None:

            def put(line: bytes) -> bool:
                log.write(line.decode())
                return True

            dispatcher.add(
                Outlet(
                    kind="log",
                    level=Level.INFO,
                    encode=lambda entry: f"{render(entry, Format.LOGFMT)}\n".encode(),
                    put=put,
                )
            )

        def count(entry: Entry) -> bytes:
            if not self._over:
                self._counts.add(entry)
            return b""

        dispatcher.add(
            Outlet(kind="report", level=Level.WARN, encode=count, put=lambda _line: True)
        )
        return dispatcher

    async def run(self) -> None:
        for host in self._setup.hosts:
            self._pools[host.name] = self._filled(host.name)
        async with trio.open_nursery() as nursery:
            for host in self._setup.hosts:
                await nursery.start(self._run_host, host)
            await self._sample()
            # how the daemons are stopped is no part of it
            self._over = True
            for watch in self._watches.values():
                watch.close()
            nursery.cancel_scope.cancel()

    def _filled(self, host: str) -> SimulatedZfs:
        setup = self._setup
        zfs = SimulatedZfs(
            host,
            seed=f"{setup.seed}:{host}",
            clock=self._clock,
            truth=self._truth,
            taken=self._recorder.taken,
            arrived=self._recorder.arrived,
            checkpoint=_no_time,
        )
        for each in self._initial[host]:
            self._make(zfs, each)
        return zfs

    def _make(self, zfs: SimulatedZfs, each: Initial) -> None:
        setup, path = self._setup, each.path
        pool = path.components[0]
        properties = {"encryption": "on", "keyformat": "passphrase"} if each.encrypted else {}
        if pool not in zfs.world.pools:
            zfs.add_pool(pool, properties=properties if path == pool else {})
        if zfs.world.get(path) is None:
            zfs.add_filesystem(path, properties)
        if each.workload is not None:
            rng = Random(f"{setup.seed}:{zfs.host}:{path}")  # noqa: S311 - nothing secret
            zfs.write_to(path, Written(each.workload, rng, setup.start, setup.zone))

    async def _run_host(
        self, host: SimulatedHost, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        structlog.contextvars.bind_contextvars(host=host.name)
        world = World(
            clock=self._clock,
            zfs=self._pools[host.name],
            watch=self._watches[host.name],
            links=self._network.links_of(host.name),
            locks=False,
        )
        jobs = build_jobs(host.config, world)
        supervisor = Supervisor(jobs, clock=self._clock, policy=RestartPolicy())
        await supervisor.run(task_status=task_status)

    async def _sample(self) -> None:
        lasts_s = self._setup.lasts_s
        for number in range(1, SAMPLES + 1):
            at_s = lasts_s * number / SAMPLES
            await trio.sleep_until(at_s - _JUST_BEFORE_S)
            for zfs in self._pools.values():
                self._recorder.sample(zfs, at_s)
            self._setup.progress(number / SAMPLES)

    def report(self) -> SimulationReport:
        setup = self._setup
        notes = [join.note for join in setup.joins if join.note]
        notes += setup.notes
        notes += [note for host in setup.hosts for note in host.notes]
        return SimulationReport(
            seed=setup.seed,
            hosts=tuple(host.name for host in setup.hosts),
            start=setup.start,
            end=self._end,
            wire=setup.wire,
            notes=tuple(notes),
            datasets=tuple(
                self._story(host, dataset, track)
                for (host, dataset), track in sorted(
                    self._recorder.tracks.items(),
                    key=lambda item: (item[1].origin, item[1].is_replica, item[0]),
                )
                # of what has no snapshot there is nothing to copy
                if not track.is_replica or self._lag(track) is not None
            ),
            links=tuple(map(self._link, setup.joins)),
            troubles=tuple(
                trouble for watch in self._watches.values() for trouble in watch.troubles()
            ),
            logged=self._counts.lines(),
            floors=tuple(floor for watch in self._watches.values() for floor in watch.floors()),
        )

    def _story(self, host: str, dataset: str, track: Track) -> DatasetStory:
        there = self._pools[host].world.get(dataset)
        creations = [each.creation for each in there.snapshots.values()] if there else []
        at = partial(datetime.fromtimestamp, tz=self._setup.start.tzinfo)
        samples = track.samples
        return DatasetStory(
            host=host,
            dataset=dataset,
            origin=str(track.origin),
            is_replica=track.is_replica,
            snapshots=len(creations),
            most_snapshots=track.most,
            oldest=at(min(creations)) if creations else None,
            newest=at(max(creations)) if creations else None,
            ladder=ladder_of(creations, self._end.timestamp()),
            ages_s=tuple(self._end.timestamp() - creation for creation in creations),
            space=track.space,
            most_space=max((sample.space for sample in samples), default=0),
            bytes_received=track.received,
            streams=track.streams,
            first_copy_s=track.first_copy_s,
            lag_s=self._lag(track),
            worst_lag_s=track.worst_lag_s if track.is_replica else None,
            worst_lag_at=self._clock.at(track.worst_at_s) if track.is_replica else None,
            samples=tuple(samples),
        )

    def _lag(self, track: Track) -> float | None:
        return self._recorder.lag(track, self._setup.lasts_s)

    def _link(self, join: Join) -> LinkStory:
        windows = self._windows.get(join.hosts, Windows(()))
        runs = self._watches[join.host].runs.get(join.job, Runs())
        return LinkStory(
            host=join.host,
            job=join.job,
            peer=join.peer,
            peer_job=join.peer_job,
            identity=join.identity,
            runs=runs.total,
            failed=runs.failed,
            down=tuple(windows.merged),
        )


async def _no_time() -> None:
    """A command that takes no time needs no other task to get its turn, and none to be cancelled in."""


def _windows(
    outages: Sequence[Outage], start: datetime, end: datetime, zone: tzinfo
) -> dict[frozenset[str], Windows]:
    spans: dict[frozenset[str], list[tuple[float, float]]] = {}
    for outage in outages:
        spans.setdefault(outage.hosts, []).extend(
            ((begins - start).total_seconds(), (ends - start).total_seconds())
            for begins, ends in outage.windows(start, end, zone)
        )
    return {hosts: Windows(found) for hosts, found in spans.items()}
