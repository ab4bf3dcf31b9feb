"""`zrepl-trio plan`: what the active jobs would do now, without doing it.

It needs no lock and no daemon of this host, and runs beside one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio
import typer

from zrepl_trio.children import open_processes
from zrepl_trio.cli import running
from zrepl_trio.cli.chosen import chosen_jobs, local_peers
from zrepl_trio.cli.console import console
from zrepl_trio.cli.exitcodes import ExitCode, exit_code
from zrepl_trio.cli.planview import plan_lines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.daemon import refuse_unbuilt
from zrepl_trio.errors import ZreplError, leaves, with_notes
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.hostzfs import host_zfs
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.jobs.world import World
from zrepl_trio.logs.outlets import open_logging
from zrepl_trio.replication.classify import main_error
from zrepl_trio.replication.policy import Overrides, parse_overrides
from zrepl_trio.replication.preview import FilesystemPreview
from zrepl_trio.replication.report import JsonValue

__all__ = ["JobPlan", "plan_command"]


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
    plans = running.run(partial(_logged_plans, loaded, jobs, parse_overrides(resolve)))
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
    loaded: LoadedConfig, names: Sequence[str], overrides: Overrides
) -> list[JobPlan]:
    outlets = loaded.config.global_.logging
    async with open_logging(outlets, SystemClock(), stdout=sys.stderr, directly=True):
        return await _plans(loaded, names, overrides)


async def _plans(loaded: LoadedConfig, names: Sequence[str], overrides: Overrides) -> list[JobPlan]:
    asleep = refuse_unbuilt(loaded, strict=False)
    clock = SystemClock()
    async with open_processes() as processes, trio.open_nursery() as nursery:
        world = World(clock=clock, zfs=host_zfs(loaded.config, processes), processes=processes)
        built = build_jobs(loaded.config, world, dormant=asleep)
        chosen = chosen_jobs(built, names, command="plan")
        for peer in local_peers(built, chosen):
            assert isinstance(peer, PassiveJob)
            await nursery.start(peer.serve)
        plans = [await _plan(job, overrides) for job in chosen]
        nursery.cancel_scope.cancel()
    return plans


async def _plan(job: ActiveJob, overrides: Overrides) -> JobPlan:
    work = job.work
    assert isinstance(work, Replicating)
    error: ZreplError | None = None
    filesystems: Sequence[FilesystemPreview] = ()
    with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
        try:
            filesystems = await work.plan(overrides)
        except* ZreplError as group:
            error = main_error(leaves(group))
    return JobPlan(
        job=job.name,
        type=job.type.value,
        peer=work.connecter.peer,
        filesystems=filesystems,
        error=error,
    )
