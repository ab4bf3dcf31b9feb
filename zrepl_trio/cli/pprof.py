"""zrepl's `pprof`: known by name, so that who types it is told what there is instead."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from zrepl_trio.cli.errors import Commands
from zrepl_trio.cli.plainhelp import Cli

__all__ = ["pprof"]

_INSTEAD = (
    "`zrepl-trio status` shows what each job and zfs command does now, a log of level debug each "
    "command with how long it took; for a profile: py-spy record --pid PID"
)

pprof = Cli(
    cls=Commands,
    help="zrepl's ways to look into Go's runtime. There is none here: both are refused.",
    epilog=f"Instead: {_INSTEAD}.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _refuse(command: str, what: str) -> NoReturn:
    from zrepl_trio.cli.exitcodes import UsageRefused

    raise UsageRefused(f"pprof {command}: there is no {what} here; instead: {_INSTEAD}")


@pprof.command(short_help="Refused.")
def listen(
    what: Annotated[str, typer.Argument(metavar="on|off", show_default=False)],
    address: Annotated[str | None, typer.Argument(metavar="HOST:PORT", show_default=False)] = None,
) -> None:
    """zrepl's switch for an HTTP server with profiles of Go's runtime. Refused.

    `zrepl-trio status` shows what each job and each zfs command does now. For a profile of the
    daemon there are Python's: py-spy record --pid PID.
    """
    del address
    _refuse(f"listen {what}", "server with Go's profiles")


@pprof.command("activity-trace", short_help="Refused.")
def activity_trace(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", show_default=False)],
) -> None:
    """zrepl's trace of its tasks, from the server that `listen` starts. Refused.

    A log of level debug has each command that is run, with its exit status and how long it took;
    `zrepl-trio status` what goes on now.
    """
    del address
    _refuse("activity-trace", "trace of Go's tasks")
