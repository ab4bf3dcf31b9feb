"""`zrepl-trio demo`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import trio
import typer
from rich.console import Console

from zrepl_trio.cli import running
from zrepl_trio.cli.errors import fail
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.demo.story import play

__all__ = ["demo_command"]

NARROWEST = 40


def demo_command(keep: Path | None, *, standin: bool) -> None:
    """Play the demo; whatever ends it, nothing of it stays."""
    if keep is not None and os.path.lexists(keep):
        fail(f"--keep {keep} exists already; name a directory that is to be made", ExitCode.USAGE)
    raise typer.Exit(running.run(partial(_play, keep, standin=standin)))


async def _stop(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        print(f"\n{signal.Signals(number).name}: cleaning up", file=sys.stderr, flush=True)
        scope.cancel()


async def _play(keep: Path | None, *, standin: bool) -> int:
    console = Console(highlight=False, emoji=False)
    if console.width < NARROWEST:
        console.width = NARROWEST
    played = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop, signals, nursery.cancel_scope)
            await play(console, keep=keep, standin=standin)
            played = True
            nursery.cancel_scope.cancel()
    return ExitCode.DONE if played else ExitCode.INTERRUPTED
