"""`zrepl-trio status`."""

from __future__ import annotations

import sys
from pathlib import Path

from zrepl_trio.cli import running
from zrepl_trio.cli.console import console
from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.cli.statusview import status_lines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.control.api import Status
from zrepl_trio.control.client import open_control_client

__all__ = ["control_socket", "only", "status_command", "wants_raw"]


def control_socket(config: Path | None) -> str:
    """Path of the control socket that the config names."""
    return str(load_config(config).config.global_.control.sockpath)


def wants_raw(mode: str | None, *, as_json: bool, job: str | None) -> bool:
    """Whether the answer is to be printed as it is; UsageRefused for a mode that we do not have."""
    match mode:
        case None | "dump" | "raw":
            raw = as_json or mode == "raw"
        case "interactive" | "legacy":
            raise UsageRefused(
                f"status --mode {mode}: there is no such view here; `watch -n1 zrepl-trio status` "
                "shows the same (accepted: dump, raw)"
            )
        case _:
            raise UsageRefused(f"status --mode {mode}: no such mode (accepted: dump, raw)")
    if as_json and mode == "dump":
        raise UsageRefused("status: --json and --mode dump exclude each other")
    if raw and job is not None:
        raise UsageRefused("status: --job is for the text; raw JSON always has all jobs")
    return raw


def only(status: Status, job: str) -> Status:
    """The status with that job alone; UsageRefused when the daemon has none of that name."""
    if job not in status.raw_jobs:
        there = ", ".join(name for name in status.raw_jobs if not name.startswith("_")) or "none"
        raise UsageRefused(f"the daemon has no job {job!r} (its jobs: {there})")
    return status.model_copy(update={"raw_jobs": {job: status.raw_jobs[job]}})


def status_command(config: Path | None, *, as_json: bool, job: str | None) -> None:
    """Print the running daemon's status to stdout, of one job alone when `job` is given."""
    path = control_socket(config)

    async def ask() -> bytes:
        async with open_control_client(path) as client:
            return await client.status_bytes()

    answer = running.run(ask)
    if as_json:
        sys.stdout.write(answer.decode() + "\n")
        return
    status = Status.model_validate_json(answer)
    if job is not None:
        status = only(status, job)
    out = console(sys.stdout)
    for line in status_lines(status, SystemClock().now()):
        out.print(line)
