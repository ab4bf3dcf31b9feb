"""`zrepl-trio run` and `run --once`."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio
import typer

from zrepl_trio import __version__
from zrepl_trio.amounts import bytes_text, duration_text
from zrepl_trio.cli import running
from zrepl_trio.cli.chosen import REPLICATING, chosen_jobs, local_peers
from zrepl_trio.cli.exitcodes import OUTCOME_CODES, ExitCode, UsageRefused
from zrepl_trio.cli.progress import ProgressLines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.daemon import open_plant, refuse_unbuilt, run_daemon
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.base import Job, JobStatus, JobType, Outcome, Wishes
from zrepl_trio.jobs.lock import JobLocked
from zrepl_trio.logs.lines import escape
from zrepl_trio.logs.outlets import open_logging
from zrepl_trio.replication.policy import parse_overrides
from zrepl_trio.zfs.names import DatasetPath

if TYPE_CHECKING:  # slow to import, and seldom needed
    from zrepl_trio.monitoring.metrics import Metrics

__all__ = ["run_command", "untaken"]

TOLD_BY_ONCE = frozenset(
    {
        "filesystem cannot be planned",
        "invocation finished",
        "planning failed",
        "step failed",
        "the floor of the other side keeps snapshots that the rules let go",
        "the link did not come back",
    }
)
"""Logged errors and warnings that `--once` tells as progress, too; twice on one terminal is once too often."""


_LOOK = ", so that there is nothing to resolve; `zrepl-trio plan` shows what they offer"


def run_command(
    config: Path | None,
    *,
    once: bool,
    jobs: Sequence[str],
    resolve: Sequence[str] = (),
    destroy_foreign: bool = False,
) -> None:
    """Run the daemon, or active jobs once. For `resolve` see `parse_overrides`, for `destroy_foreign`
    `Wishes`."""
    if (jobs or resolve or destroy_foreign) and not once:
        what = "a JOB, --resolve, or --destroy-foreign"
        raise UsageRefused(f"run: {what}, can be given only with --once")
    wishes = Wishes(divergence=parse_overrides(resolve), destroy_foreign=destroy_foreign)
    loaded = load_config(config)
    if once:
        raise typer.Exit(running.run(partial(_once, loaded, jobs, wishes)))
    running.run(partial(_daemon, loaded))


async def _daemon(loaded: LoadedConfig) -> None:
    settings = loaded.config.global_
    metrics = _metrics() if settings.monitoring else None
    on_entry = metrics.log_entry if metrics is not None else None
    async with open_logging(settings.logging, SystemClock(), on_entry=on_entry):
        announcement = _Announcement(loaded)
        await run_daemon(loaded, metrics=metrics, task_status=announcement)


async def _once(loaded: LoadedConfig, names: Sequence[str], wishes: Wishes) -> int:
    settings = loaded.config.global_
    leave_out = frozenset[str]() if "logging" in settings.model_fields_set else TOLD_BY_ONCE
    # what goes to the terminal stays in order with the progress that is told there
    async with open_logging(
        settings.logging, SystemClock(), stdout=sys.stderr, directly=True, leave_out=leave_out
    ):
        return await _run_once(loaded, names, wishes)


def _metrics() -> Metrics:
    from zrepl_trio.monitoring.metrics import Metrics

    about = f"zrepl-trio version={__version__} python={platform.python_version()}"
    return Metrics(
        clock=SystemClock(), monotonic=trio.current_time, version=__version__, about=about
    )


class _Announcement(trio.TaskStatus[None]):
    """Tells somebody at a terminal that the daemon is up: by default it logs nothing but trouble."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded

    def started(self, value: None = None) -> None:
        del value
        if sys.stderr.isatty():
            count = len(self._loaded.config.jobs)
            jobs = f"{count} job{'' if count == 1 else 's'}"
            _say(f"{jobs} of {self._loaded.path} up; `zrepl-trio status` shows them, Ctrl-C stops")


def _say(text: str) -> None:
    # errors are told as they are, and may be a peer's words
    shown = "\n".join(escape(line) for line in text.split("\n"))
    print(shown, file=sys.stderr, flush=True)


async def _interrupted(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        _say(f"{signal.Signals(number).name}: stopping; what was received is kept")
        scope.cancel()


async def _run_once(loaded: LoadedConfig, names: Sequence[str], wishes: Wishes) -> int:
    """The greatest of the jobs' exit statuses."""
    refuse_unbuilt(loaded)
    codes: list[int] = [ExitCode.DONE]
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_plant(loaded, environ=os.environ) as plant, trio.open_nursery() as nursery:
            jobs = chosen_jobs(plant.jobs, names, command="run --once")
            # one that is alone with them tells itself of a filesystem that is not there
            alone = [job.type in REPLICATING for job in jobs].count(True) == 1
            wishes = replace(wishes, divergence_elsewhere=not alone)
            nursery.start_soon(_interrupted, signals, nursery.cancel_scope)
            for peer in local_peers(plant.jobs, jobs):
                await nursery.start(_serve, peer)
            for job in jobs:
                codes.append(await _run_job(job, wishes))  # noqa: PERF401 - counted when cancelled
            for path in () if alone else untaken([job.status() for job in jobs], wishes):
                _say(
                    f"zrepl-trio: {path}: none of these jobs' senders offers such a filesystem{_LOOK}"
                )
                codes.append(ExitCode.FAILED)
            nursery.cancel_scope.cancel()
        if nursery.cancel_scope.cancelled_caught and len(codes) <= len(jobs):
            return ExitCode.INTERRUPTED
    return max(codes)


def untaken(ran: Sequence[JobStatus], wishes: Wishes) -> list[DatasetPath]:
    """The filesystems to be resolved that none of these jobs has, after their runs."""
    reports = [status.replication for status in ran if status.replication is not None]
    offered = {each.name for report in reports if report.last for each in report.last.filesystems}
    return [path for path in wishes.divergence if str(path) not in offered]


async def _serve(job: Job, *, task_status: trio.TaskStatus[None]) -> None:
    with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
        try:
            await job.run(task_status=task_status)
        except JobLocked as error:
            # the daemon serves it, within its own process: the job that needs it says the rest
            _say(f"zrepl-trio: {error}")
            task_status.started()


def _done(status: JobStatus) -> str:
    destroyed = sum(report.destroyed for report in status.pruning)
    pruned = f"{destroyed} snapshot{'' if destroyed == 1 else 's'} destroyed"
    if status.type is JobType.SNAP:
        return pruned
    moved = bytes_text(status.replication.replicated) if status.replication else "nothing"
    return f"{moved}, {pruned}" if destroyed else moved


async def _run_job(job: ActiveJob, wishes: Wishes) -> int:
    def say(text: str) -> None:
        _say(f"{job.name}: {text}")

    lines = ProgressLines(say=say, monotonic=trio.current_time)
    try:
        with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
            invocation = await job.run_once(lines, wishes)
    except JobLocked as error:
        _say(f"zrepl-trio: {error}")
        return ExitCode.ALREADY_RUNNING
    assert invocation.outcome is not None
    assert invocation.finished is not None
    took = duration_text((invocation.finished - invocation.started).total_seconds())
    if invocation.outcome is Outcome.DONE:
        say(f"all done: {_done(job.status())} in {took}")
    else:
        say(f"{invocation.outcome.value} after {took}: {invocation.error}")
    return OUTCOME_CODES[invocation.outcome]
