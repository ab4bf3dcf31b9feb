"""`zrepl-trio plan`: what the active jobs would do now, without doing it.

It needs no lock and no daemon of this host, and runs beside one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
import trio
import typer

from zrepl_trio.children import open_processes
from zrepl_trio.cli import running
from zrepl_trio.cli.chosen import REPLICATING, chosen_jobs, local_peers
from zrepl_trio.cli.console import console
from zrepl_trio.cli.exitcodes import ExitCode, exit_code
from zrepl_trio.cli.planview import plan_lines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.daemon import refuse_unbuilt
from zrepl_trio.errors import ZreplError, leaves, with_notes
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.base import Job, Wishes
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.hostzfs import host_zfs
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.jobs.world import World
from zrepl_trio.logs.outlets import open_logging
from zrepl_trio.replication.classify import main_error
from zrepl_trio.replication.policy import parse_overrides
from zrepl_trio.replication.preview import FilesystemPreview
from zrepl_trio.replication.report import JsonValue

__all__ = ["JobPlan", "each_wish_once", "plan_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """One job's plan, or the error that kept it from being made."""

    job: str
    type: str
    peer: str
    filesystems: Sequence[FilesystemPreview] = ()
    error: ZreplError | None = None

    @property
    def code(self) -> ExitCode:
        if self.error is not None:
            return exit_code(self.error)
        return ExitCode.FAILED if any(each.problem for each in self.filesystems) else ExitCode.DONE

    def to_json(self) -> JsonValue:
        return {
            "job": self.job,
            "type": self.type,
            "peer": self.peer,
            "error": with_notes(self.error) if self.error is not None else "",
            "filesystems": [each.to_json() for each in self.filesystems],
        }


def plan_command(
    config: Path | None, *, jobs: Sequence[str], as_json: bool, resolve: Sequence[str]
) -> None:
    """Print the plans; the exit status is the greatest of the jobs'. For `resolve` see
    `parse_overrides`."""
    loaded = load_config(config)
    plans = running.run(
        partial(_logged_plans, loaded, jobs, Wishes(divergence=parse_overrides(resolve)))
    )
    if as_json:
        json.dump({"jobs": [plan.to_json() for plan in plans]}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        out = console(sys.stdout)
        for plan in plans:
            for line in plan_lines(
                plan.job,
                plan.type,
                plan.peer,
                plan.filesystems,
                error=with_notes(plan.error) if plan.error is not None else "",
            ):
                out.print(line)
    raise typer.Exit(max((plan.code for plan in plans), default=ExitCode.DONE))


async def _logged_plans(
    loaded: LoadedConfig, names: Sequence[str], wishes: Wishes
) -> list[JobPlan]:
    async with open_standing_by(loaded) as jobs:
        chosen = chosen_jobs(jobs.all, names, command="plan", types=REPLICATING)
        await jobs.serve(local_peers(jobs.all, chosen))
        return each_wish_once([await _plan(job, wishes) for job in chosen])


def each_wish_once(plans: Sequence[JobPlan]) -> list[JobPlan]:
    """The plans, each made with all of the wishes: one for a filesystem that another job offers is
    no problem of a job that does not."""
    offered = {each.path for plan in plans for each in plan.filesystems if each.offered}
    return [
        replace(
            plan,
            filesystems=[
                each for each in plan.filesystems if each.offered or each.path not in offered
            ],
        )
        for plan in plans
    ]


class StandingBy:
    """The jobs of a config, built and not running: for a look at what they would do."""

    def __init__(self, jobs: Sequence[Job], nursery: trio.Nursery) -> None:
        self.all = jobs
        self._nursery = nursery

    async def serve(self, peers: Sequence[Job]) -> None:
        """Have these passive jobs answer, without lock and snapshots, those that look."""
        for peer in peers:
            assert isinstance(peer, PassiveJob)
            await self._nursery.start(peer.serve)


@asynccontextmanager
async def open_standing_by(loaded: LoadedConfig) -> AsyncIterator[StandingBy]:
    """Needs no lock and no daemon; the log goes to stderr."""
    outlets = loaded.config.global_.logging
    clock = SystemClock()
    async with open_logging(outlets, clock, stdout=sys.stderr, directly=True):
        refuse_unbuilt(loaded)
        async with open_processes() as processes, trio.open_nursery() as nursery:
            world = World(clock=clock, zfs=host_zfs(loaded.config, processes), processes=processes)
            yield StandingBy(build_jobs(loaded.config, world), nursery)
            nursery.cancel_scope.cancel()


async def _plan(job: ActiveJob, wishes: Wishes) -> JobPlan:
    work = job.work
    assert isinstance(work, Replicating)
    error: ZreplError | None = None
    filesystems: Sequence[FilesystemPreview] = ()
    with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
        try:
            filesystems = await work.plan(wishes)
        except* ZreplError as group:
            error = main_error(leaves(group))
    return JobPlan(
        job=job.name,
        type=job.type.value,
        peer=work.connecter.peer,
        filesystems=filesystems,
        error=error,
    )
