"""`zrepl-trio status`."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from zrepl_trio.cli.console import console
from zrepl_trio.cli.statusview import status_lines
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.control.api import Status
from zrepl_trio.control.client import open_control_client

__all__ = ["control_socket", "status_command"]


def control_socket(config: Path | None) -> str:
    """Path of the control socket that the config names."""
    return str(load_config(config).config.global_.control.sockpath)


def status_command(config: Path | None, *, as_json: bool) -> None:
    """Print the running daemon's status to stdout."""
    path = control_socket(config)

    async def ask() -> bytes:
        async with open_control_client(path) as client:
            return await client.status_bytes()

    answer = trio.run(ask)
    if as_json:
        sys.stdout.write(answer.decode() + "\n")
        return
    out = console(sys.stdout)
    for line in status_lines(Status.model_validate_json(answer), SystemClock().now()):
        out.print(line)
