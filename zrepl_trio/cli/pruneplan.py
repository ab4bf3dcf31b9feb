"""`zrepl-trio plan --prune` and `zrepl-trio explain`: what pruning would do now, without doing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
import typer

from zrepl_trio.cli import running
from zrepl_trio.cli.chosen import PRUNING, chosen_jobs, local_peers
from zrepl_trio.cli.console import console
from zrepl_trio.cli.exitcodes import ExitCode, UsageRefused, exit_code
from zrepl_trio.cli.plan import open_standing_by
from zrepl_trio.cli.pruneview import judgement_text, prune_json, prune_lines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import Refused, ZreplError, leaves, with_notes
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.base import Wishes
from zrepl_trio.jobs.pruning import LocalPruning
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.logs.lines import escape
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.planner import SidePlan
from zrepl_trio.replication.classify import main_error
from zrepl_trio.replication.report import JsonValue
from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = ["explain_command", "prune_plan_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPrunePlan:
    """One job's, or the error that kept it from being made: the receiver's side alone, if there are sides."""

    job: ActiveJob
    sides: Sequence[SidePlan] = ()
    error: ZreplError | None = None

    @property
    def code(self) -> ExitCode:
        if self.error is not None:
            return exit_code(self.error)
        failed = any(
            side.error or any(each.error for each in side.filesystems) for side in self.sides
        )
        return ExitCode.FAILED if failed else ExitCode.DONE

    @property
    def error_text(self) -> str:
        return with_notes(self.error) if self.error is not None else ""

    def to_json(self) -> JsonValue:
        return {
            "job": self.job.name,
            "type": self.job.type.value,
            "error": self.error_text,
            "pruning": [prune_json(side) for side in self.sides],
        }


def prune_plan_command(
    config: Path | None, *, jobs: Sequence[str], as_json: bool, destroy_foreign: bool
) -> None:
    """Print the plans; the exit status is the greatest of the jobs'."""
    loaded = load_config(config)
    wishes = Wishes(destroy_foreign=destroy_foreign)
    plans = running.run(partial(_plans, loaded, jobs, wishes, "plan --prune"))
    if as_json:
        json.dump({"jobs": [plan.to_json() for plan in plans]}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        out, now = console(sys.stdout), SystemClock().now()
        for plan in plans:
            for line in prune_lines(
                plan.job.name, plan.job.type.value, plan.sides, now, error=plan.error_text
            ):
                out.print(line)
    raise typer.Exit(max((plan.code for plan in plans), default=ExitCode.DONE))


async def _plans(
    loaded: LoadedConfig, names: Sequence[str], wishes: Wishes, command: str
) -> list[JobPrunePlan]:
    async with open_standing_by(loaded) as jobs:
        chosen = chosen_jobs(jobs.all, names, command=command, types=PRUNING)
        await jobs.serve(local_peers(jobs.all, chosen))
        return [await _plan(job, wishes) for job in chosen]


async def _plan(job: ActiveJob, wishes: Wishes) -> JobPrunePlan:
    plan = JobPrunePlan(job=job)
    with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
        try:
            work = job.work
            if isinstance(work, LocalPruning):
                plan = replace(plan, sides=await work.plan(wishes))
            else:
                assert isinstance(work, Replicating)
                planned = await work.plan_pruning(wishes)
                plan = replace(plan, sides=planned.sides, error=planned.receiver_down)
        except* ZreplError as group:
            plan = replace(plan, error=main_error(leaves(group)))
    return plan


def explain_command(config: Path | None, *, snapshot: str, jobs: Sequence[str]) -> None:
    """Tell what each job's pruning would do to `DATASET@SNAP` of this host, and why. The exit status is the
    greatest of the jobs', of what concerns that dataset."""
    path, name = _snapshot(snapshot)
    loaded = load_config(config)
    made = running.run(partial(_plans, loaded, jobs, Wishes(), "explain"))
    plans = [_about(plan, path) for plan in made]
    said = [line for plan in plans for line in _explained(plan, name)]
    for line in "\n".join(said).splitlines():
        print(escape(line))
    if not said:
        raise Refused(
            f"{snapshot}: no job of this config prunes it on its own side (what a sink or a source has, "
            "its clients prune), or there is none of that name"
        )
    raise typer.Exit(max((plan.code for plan in plans), default=ExitCode.DONE))


def _snapshot(text: str) -> tuple[DatasetPath, str]:
    dataset, _, name = text.partition("@")
    if not name:
        raise UsageRefused(f"explain: {text!r} is not DATASET@SNAP")
    try:
        return DatasetPath.parse(dataset), name
    except InvalidName as error:
        raise UsageRefused(f"explain: {error}") from None


def _about(plan: JobPrunePlan, path: DatasetPath) -> JobPrunePlan:
    """What the plan has of that dataset of this host."""
    sides = [
        replace(
            side,
            filesystems=tuple(
                each
                for each in side.filesystems
                if _local(plan.job, side.policy.side, each.path) == path
            ),
        )
        for side in plan.sides
        if _is_here(plan.job, side.policy.side)
    ]
    return replace(plan, sides=sides)


def _explained(plan: JobPrunePlan, name: str) -> Iterator[str]:
    job = plan.job.name
    said = False
    for side in plan.sides:
        for line in _side_explained(side, name):
            said = True
            yield f"job {job} ({side.policy.side.value}): {line}"
    if plan.error is not None and not plan.sides:
        yield f"job {job}: cannot tell: {plan.error_text}"
    elif plan.error is not None and said:
        yield f"job {job}: the receiver cannot be asked: {plan.error_text}"


def _side_explained(side: SidePlan, name: str) -> Iterator[str]:
    if side.error:
        yield f"cannot tell: {side.error}"
    for each in side.filesystems:
        if each.error or each.skipped:
            yield each.error or f"not pruned: {each.skipped}"
        for one in each.judgements:
            if one.snapshot.name == name:
                yield judgement_text(one, side.policy)


def _is_here(job: ActiveJob, side: PruneSide) -> bool:
    """Whether that side of the job is this host's."""
    work = job.work
    if isinstance(work, Replicating):
        return side is (PruneSide.RECEIVER if work.pulls else PruneSide.SENDER)
    return True


def _local(job: ActiveJob, side: PruneSide, path: DatasetPath) -> DatasetPath | None:
    work = job.work
    if side is PruneSide.RECEIVER and isinstance(work, Replicating):
        here = work.here
        try:
            return here.place(path) if isinstance(here, Receiver) else None
        except Refused:
            return None
    return path
