"""`sandbox`: run a command with emulated ZFS pools kept in a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from zrepl_trio.cli.errors import fail
from zrepl_trio.cli.exitcodes import ExitCode

__all__ = ["sandbox"]


def sandbox(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Where the pools are kept; made if it is new.", readable=False
        ),
    ],
    command: Annotated[
        list[str],
        typer.Argument(metavar="CMD", help="What to run, with its arguments."),
    ],
) -> None:
    """Run CMD with an emulated `zfs` and `zpool` first in PATH, their pools kept in DIR.

    To try any ZFS tool where there is no ZFS. A pool needs no device: `zpool create tank`. A
    filesystem's files are a plain directory, DIR/tank for the pool `tank`; snapshots, bookmarks,
    holds, full, incremental and resumed send and receive work on them as on real OpenZFS, and
    what is not emulated is refused by name. Nothing keeps running: removing DIR removes it all.
    The exit status is CMD's.

    \b
    Examples:
      zrepl-trio sandbox /tmp/pools -- zpool create tank
      zrepl-trio sandbox /tmp/pools -- sh -c 'date > /tmp/pools/tank/now; zfs snapshot tank@now'
      zrepl-trio sandbox /tmp/pools -- zfs list -t all -r tank
      zrepl-trio sandbox /tmp/pools -- zrepl-trio run --once --config my.yml
    """
    from zrepl_trio.emulate.sandbox import Sandbox

    # Options after DIR are CMD's, so the parser leaves a `--` there where it is.
    words = command[1:] if command[0] == "--" else command
    if not words:
        fail("nothing to run: zrepl-trio sandbox DIR -- CMD...", ExitCode.USAGE)
    try:
        environment = Sandbox(directory).environment(os.environ)
    except OSError as error:
        fail(f"cannot keep pools in {directory}: {error.strerror}", ExitCode.FAILED)
    try:
        os.execvpe(words[0], words, environment)
    except OSError as error:
        fail(f"cannot run {words[0]!r}: {error.strerror}", ExitCode.FAILED)
