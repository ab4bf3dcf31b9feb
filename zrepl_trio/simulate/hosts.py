"""The hosts of a simulation, by their configs: what of each is run, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import (
    Config,
    Job,
    PullJob,
    PushJob,
    SinkJob,
    SnapJob,
    SourceJob,
)
from zrepl_trio.config.rules import ManualSnapshotting, PeriodicSnapshotting
from zrepl_trio.config.scalars import format_duration
from zrepl_trio.config.support import unsupported
from zrepl_trio.errors import ConfigErrors, UsageRefused

__all__ = ["ActiveSection", "PassiveSection", "SimulatedHost", "load_hosts"]

MANUAL_PREFIX = "zrepl_"
"""How the snapshots are named that other means would take."""

ActiveSection: TypeAlias = PullJob | PushJob
PassiveSection: TypeAlias = SourceJob | SinkJob


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHost:
    """One host: its config without what a simulation does not do, of which `notes` tell. `manual`:
    snapshots of a job are taken by other means. `files` are all that the config was read from, `path` and
    what it includes."""

    name: str
    path: str
    config: Config
    notes: tuple[str, ...]
    manual: bool = False
    files: frozenset[str] = frozenset()

    @property
    def active(self) -> Iterator[ActiveSection]:
        """The jobs that connect."""
        return (job for job in self.config.jobs if isinstance(job, PullJob | PushJob))

    @property
    def passive(self) -> Iterator[PassiveSection]:
        """The jobs that are connected to."""
        return (job for job in self.config.jobs if isinstance(job, SourceJob | SinkJob))

    @property
    def sending(self) -> Iterator[PushJob | SourceJob | SnapJob]:
        """The jobs with datasets of their own."""
        return (job for job in self.config.jobs if isinstance(job, PushJob | SourceJob | SnapJob))

    @property
    def receiving(self) -> Iterator[PullJob | SinkJob]:
        """The jobs that keep replicas."""
        return (job for job in self.config.jobs if isinstance(job, PullJob | SinkJob))


def load_hosts(given: Sequence[str], *, manual_every_s: int | None = None) -> list[SimulatedHost]:
    """A host for each `FILE` or `NAME=FILE`; without a NAME it is the file's, less its suffix. With
    `manual_every_s`, jobs whose snapshots are taken by other means have one that often.

    Raises ConfigErrors for a config that the daemon would not start with, UsageRefused for two hosts of one
    name.
    """
    hosts: list[SimulatedHost] = []
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = Path(text).stem, text
        if not name or any(char.isspace() or char in ":=" for char in name):
            raise UsageRefused(f"{text!r}: {name!r} is no name for a host")
        twin = next((host for host in hosts if host.name == name), None)
        if twin is not None:
            raise UsageRefused(
                f"{twin.path} and {path} would both be host {name!r}: name them, as in a={path}"
            )
        hosts.append(_host(name, load_config(Path(path)), manual_every_s))
    return hosts


def _host(name: str, loaded: LoadedConfig, manual_every_s: int | None) -> SimulatedHost:
    jobs, notes = [], []
    for job in loaded.config.jobs:
        kept, left_out = _simulated(job, manual_every_s)
        jobs.append(kept)
        notes += [f"{name}: job {job.name}: {text}" for text in left_out]
    config = loaded.config.model_copy(update={"jobs": tuple(jobs)})
    if not jobs:
        raise UsageRefused(f"{loaded.path} has no jobs, so there is nothing to simulate")
    simulated = replace(loaded, config=config)
    if problems := unsupported(simulated):
        raise ConfigErrors(problems)
    return SimulatedHost(
        name=name,
        path=str(loaded.path),
        config=config,
        notes=tuple(notes),
        manual=any(
            isinstance(getattr(job, "snapshotting", None), ManualSnapshotting)
            for job in loaded.config.jobs
        ),
        files=frozenset(
            {str(loaded.path)}
            | {loaded.locate(("jobs", index))[1].file for index in range(len(jobs))}
        ),
    )


def _simulated(job: Job, manual_every_s: int | None) -> tuple[Job, list[str]]:
    """The job without what needs a real host, and what that was."""
    notes = []
    if isinstance(job, PushJob | SourceJob | SnapJob):
        snapshotting = job.snapshotting
        if isinstance(snapshotting, ManualSnapshotting):
            if manual_every_s is None:
                runs = ", and it never runs" if isinstance(job, PushJob) else ""
                notes.append(
                    f"its snapshots are taken by other means, so here there are none{runs}"
                )
            else:
                every = format_duration(manual_every_s)
                notes.append(
                    f"its snapshots are taken by other means: here, {MANUAL_PREFIX} every {every}"
                )
                taken = PeriodicSnapshotting(
                    type="periodic", prefix=MANUAL_PREFIX, interval=f"{every}"
                )
                job = job.model_copy(update={"snapshotting": taken})
        elif snapshotting.hooks:
            count = len(snapshotting.hooks)
            notes.append(
                f"its {count} hook{'s are' if count > 1 else ' is'} not run, and taken for done at once"
            )
            without = snapshotting.model_copy(update={"hooks": ()})
            job = job.model_copy(update={"snapshotting": without})
    if isinstance(job, PullJob) and job.interval is None:
        runs = "runs once, at the start" if job.run_at_start else "never runs"
        notes.append(f"its interval is manual, and nobody wakes it here, so it {runs}")
    if isinstance(job, PushJob | PullJob):
        # nobody looks at how large the steps will be
        concurrency = job.replication.concurrency.model_copy(update={"size_estimates": 0})
        replication = job.replication.model_copy(update={"concurrency": concurrency})
        job = job.model_copy(update={"replication": replication})
    for key in ("send", "recv"):
        options = getattr(job, key, None)
        if options is not None and options.bandwidth_limit.limited:
            notes.append(
                f"{key}.bandwidth_limit is not kept to: in a simulation, transfers take no time"
            )
            free = options.bandwidth_limit.model_copy(update={"max": -8.0})
            options = options.model_copy(update={"bandwidth_limit": free})
            job = job.model_copy(update={key: options})
    return job, notes
