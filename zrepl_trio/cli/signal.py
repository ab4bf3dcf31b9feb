"""`zrepl-trio signal wakeup|reset JOB`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio
import typer

from zrepl_trio.cli import running
from zrepl_trio.cli.exitcodes import OUTCOME_CODES
from zrepl_trio.cli.status import control_socket
from zrepl_trio.control.api import InvocationModel, Status
from zrepl_trio.control.client import ControlClient, open_control_client
from zrepl_trio.control.faults import DaemonRefused
from zrepl_trio.jobs.base import Outcome
from zrepl_trio.replication.policy import parse_overrides

__all__ = ["refusal", "reset_command", "wakeup_command"]

POLL_S = 0.1
ACTIVE = {"pull", "push", "snap"}


async def _end_of_run(client: ControlClient, job: str) -> InvocationModel:
    """How the run that goes on now ended (or, if a tick was faster than we, the one after it)."""
    while True:
        run = (await client.status()).job(job).invocation
        if run is None:
            raise DaemonRefused(f"job {job} tells of no run")
        if run.outcome:
            return run
        await trio.sleep(POLL_S)


def refusal(no: str, status: Status, job: str, operation: str) -> str:
    """The daemon's no, which is in zrepl's few words, with what they mean and what to do."""
    names = [name for name in status.raw_jobs if not name.startswith("_")]
    if job not in names:
        return f"the daemon has no job {job!r} (its jobs: {', '.join(names) or 'none'})"
    kind = status.type_of(job)
    if kind not in ACTIVE:
        return f"{job} is a {kind} job, which waits for its peers; only push, pull and snap jobs take {operation}"
    match no:
        case "already woken up":
            return f"{job} runs already, `zrepl-trio status` shows how far it is ({no})"
        case "already reset":
            return f"{job} does not run now, so there is nothing to stop ({no})"
        case _:
            return no


async def _send(
    client: ControlClient,
    job: str,
    operation: str,
    resolve: Mapping[str, str] | None = None,
    *,
    destroy_foreign: bool = False,
) -> None:
    try:
        await client.signal(job, operation, resolve, destroy_foreign=destroy_foreign)
    except DaemonRefused as error:
        text = refusal(str(error), await client.status(), job, operation)
        raise DaemonRefused(text) from error


def wakeup_command(
    config: Path | None,
    job: str,
    *,
    wait: bool,
    resolve: Sequence[str] = (),
    destroy_foreign: bool = False,
) -> None:
    """Wake the job; with `wait`, exit by the outcome of its run. For `resolve` see `parse_overrides`, for
    `destroy_foreign` `Wishes`."""
    wishes = {str(name): way.value for name, way in parse_overrides(resolve).items()}
    path = control_socket(config)

    async def signal() -> InvocationModel | None:
        async with open_control_client(path) as client:
            await _send(client, job, "wakeup", wishes, destroy_foreign=destroy_foreign)
            # A job that takes the signal runs from that moment on, so the first status shows it.
            return await _end_of_run(client, job) if wait else None

    run = running.run(signal)
    if run is None:
        return
    outcome = Outcome(run.outcome)
    if run.error:
        print(f"zrepl-trio: job {job}: {run.error}", file=sys.stderr)
    raise typer.Exit(OUTCOME_CODES[outcome])


def reset_command(config: Path | None, job: str) -> None:
    """Cancel the job's run."""
    path = control_socket(config)

    async def signal() -> None:
        async with open_control_client(path) as client:
            await _send(client, job, "reset")

    running.run(signal)
