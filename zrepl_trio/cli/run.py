"""`zrepl-trio run` and `run --once`."""

from __future__ import annotations

import platform
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio
import typer

from zrepl_trio import __version__
from zrepl_trio.amounts import bytes_text, duration_text
from zrepl_trio.cli import running
from zrepl_trio.cli.chosen import chosen_jobs, local_peers
from zrepl_trio.cli.exitcodes import OUTCOME_CODES, ExitCode, UsageRefused
from zrepl_trio.cli.progress import ProgressLines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.daemon import open_plant, refuse_unbuilt, run_daemon
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.base import Job, Outcome
from zrepl_trio.jobs.lock import JobLocked
from zrepl_trio.logs.outlets import open_logging
from zrepl_trio.replication.policy import Overrides, parse_overrides

if TYPE_CHECKING:  # slow to import, and seldom needed
    from zrepl_trio.monitoring.metrics import Metrics

__all__ = ["run_command"]

TOLD_BY_ONCE = frozenset(
    {
        "filesystem cannot be planned",
        "invocation finished",
        "planning failed",
        "step failed",
        "the link did not come back",
    }
)
"""Logged errors that `--once` tells as progress, too; twice on one terminal is once too often."""


def run_command(
    config: Path | None,
    *,
    once: bool,
    strict: bool,
    jobs: Sequence[str],
    resolve: Sequence[str] = (),
) -> None:
    """Run the daemon, or active jobs once. For `resolve` see `parse_overrides`."""
    if (jobs or resolve) and not once:
        raise UsageRefused("run: a JOB, or --resolve, can be given only with --once")
    overrides = parse_overrides(resolve)
    loaded = load_config(config)
    if once:
        raise typer.Exit(running.run(partial(_once, loaded, jobs, overrides, strict=strict)))
    running.run(partial(_daemon, loaded, strict=strict))


async def _daemon(loaded: LoadedConfig, *, strict: bool) -> None:
    settings = loaded.config.global_
    metrics = _metrics() if settings.monitoring else None
    on_entry = metrics.log_entry if metrics is not None else None
    async with open_logging(settings.logging, SystemClock(), on_entry=on_entry):
        announcement = _Announcement(loaded)
        await run_daemon(loaded, strict=strict, metrics=metrics, task_status=announcement)


async def _once(
    loaded: LoadedConfig, names: Sequence[str], overrides: Overrides, *, strict: bool
) -> int:
    settings = loaded.config.global_
    leave_out = frozenset[str]() if "logging" in settings.model_fields_set else TOLD_BY_ONCE
    # what goes to the terminal stays in order with the progress that is told there
    async with open_logging(
        settings.logging, SystemClock(), stdout=sys.stderr, directly=True, leave_out=leave_out
    ):
        return await _run_once(loaded, names, overrides, strict=strict)


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
    print(text, file=sys.stderr, flush=True)


async def _interrupted(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        _say(f"{signal.Signals(number).name}: stopping; what was received is kept")
        scope.cancel()


async def _run_once(
    loaded: LoadedConfig, names: Sequence[str], overrides: Overrides, *, strict: bool
) -> int:
    """The greatest of the jobs' exit statuses."""
    asleep = refuse_unbuilt(loaded, strict=strict)
    codes: list[int] = [ExitCode.DONE]
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_plant(loaded, asleep) as plant, trio.open_nursery() as nursery:
            jobs = chosen_jobs(plant.jobs, names, command="run --once")
            nursery.start_soon(_interrupted, signals, nursery.cancel_scope)
            for peer in local_peers(plant.jobs, jobs):
                await nursery.start(_serve, peer)
            for job in jobs:
                for what in asleep.get(job.name, ()):
                    _say(f"{job.name}: {what} is configured, but not active in this version")
                codes.append(await _run_job(job, overrides))
            nursery.cancel_scope.cancel()
        if nursery.cancel_scope.cancelled_caught and len(codes) <= len(jobs):
            return ExitCode.INTERRUPTED
    return max(codes)


async def _serve(job: Job, *, task_status: trio.TaskStatus[None]) -> None:
    with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
        try:
            await job.run(task_status=task_status)
        except JobLocked as error:
            # the daemon serves it, within its own process: the job that needs it says the rest
            _say(f"zrepl-trio: {error}")
            task_status.started()


async def _run_job(job: ActiveJob, overrides: Overrides) -> int:
    def say(text: str) -> None:
        _say(f"{job.name}: {text}")

    lines = ProgressLines(say=say, monotonic=trio.current_time)
    try:
        with structlog.contextvars.bound_contextvars(job=job.name, subsystem="job"):
            invocation = await job.run_once(lines, overrides)
    except JobLocked as error:
        _say(f"zrepl-trio: {error}")
        return ExitCode.ALREADY_RUNNING
    assert invocation.outcome is not None
    assert invocation.finished is not None
    took = duration_text((invocation.finished - invocation.started).total_seconds())
    report = job.status().replication
    moved = bytes_text(report.replicated) if report else "nothing"
    if invocation.outcome is Outcome.DONE:
        say(f"all done: {moved} in {took}")
    else:
        say(f"{invocation.outcome.value} after {took}: {invocation.error}")
    return OUTCOME_CODES[invocation.outcome]
