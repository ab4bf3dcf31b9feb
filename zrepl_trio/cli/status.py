"""`zrepl-trio status`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zrepl_trio.cli import running
from zrepl_trio.cli.console import console
from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.cli.statusview import status_lines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.scalars import ScalarError, parse_go_duration
from zrepl_trio.control.api import Status
from zrepl_trio.control.client import open_control_client

__all__ = ["check_delay", "control_socket", "json_text", "only", "status_command", "wants_raw"]


def control_socket(config: Path | None) -> str:
    """Path of the control socket that the config names."""
    return str(load_config(config).config.global_.control.sockpath)


def check_delay(text: str) -> None:
    """UsageRefused for what zrepl would not take as `--delay`."""
    try:
        parse_go_duration(text)
    except ScalarError as error:
        raise UsageRefused(f"status --delay {text}: {error}") from None


def wants_raw(mode: str | None, *, as_json: bool) -> bool:
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
    return raw


def only(status: Status, job: str) -> Status:
    """The status with that job alone; UsageRefused when the daemon has none of that name."""
    if job not in status.raw_jobs:
        there = ", ".join(name for name in status.raw_jobs if not name.startswith("_")) or "none"
        raise UsageRefused(f"the daemon has no job {job!r} (its jobs: {there})")
    return status.model_copy(update={"raw_jobs": {job: status.raw_jobs[job]}})


def json_text(answer: bytes, job: str | None) -> str:
    """The daemon's answer as it is; for a `job`, which it must have, without the other ones."""
    if job is None:
        return answer.decode()
    whole = json.loads(answer)
    return json.dumps({**whole, "Jobs": {job: whole["Jobs"][job]}})


def status_command(config: Path | None, *, as_json: bool, job: str | None) -> None:
    """Print the running daemon's status to stdout, of one job alone when `job` is given. As JSON it
    is the daemon's own answer, and then without the other jobs."""
    path = control_socket(config)

    async def ask() -> bytes:
        async with open_control_client(path) as client:
            return await client.status_bytes()

    answer = running.run(ask)
    status = Status.model_validate_json(answer)
    if job is not None:
        status = only(status, job)
    if as_json:
        sys.stdout.write(json_text(answer, job) + "\n")
        return
    out = console(sys.stdout)
    for line in status_lines(status, SystemClock().now()):
        out.print(line)
