"""Which jobs a command line means."""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.base import Job, JobType

__all__ = ["PRUNING", "REPLICATING", "chosen_jobs", "local_peers"]


REPLICATING = frozenset({JobType.PUSH, JobType.PULL})
PRUNING = REPLICATING | {JobType.SNAP}


def chosen_jobs(
    jobs: Sequence[Job],
    names: Sequence[str],
    *,
    command: str,
    types: frozenset[JobType] = PRUNING,
) -> list[ActiveJob]:
    """The active jobs of those names, all when there are none; UsageRefused for a wrong one, or one of
    another type."""
    active = {job.name: job for job in jobs if isinstance(job, ActiveJob) and job.type in types}
    unknown = [name for name in names if name not in active]
    if unknown:
        there = ", ".join(active) or "none"
        raise UsageRefused(f"{command}: no active job {', '.join(unknown)} (there are: {there})")
    if not active:
        kinds = " or ".join(job_type.value for job_type in JobType if job_type in types)
        raise UsageRefused(f"{command}: the config has no active ({kinds}) job")
    return [active[name] for name in dict.fromkeys(names or active)]


def local_peers(jobs: Sequence[Job], chosen: Sequence[ActiveJob]) -> list[Job]:
    """The jobs of this config that those chosen connect to within one process."""
    needed = {job.needs for job in chosen}
    return [job for job in jobs if job.name in needed]
