"""`zrepl-trio gencompletion`: the shell's side of completion; `complete_here` is ours."""

from __future__ import annotations

import os
from pathlib import Path

from zrepl_trio.cli.errors import fail

__all__ = ["VARIABLE", "complete_here", "write_script"]

PROGRAM = "zrepl-trio"
VARIABLE = "_ZREPL_TRIO_COMPLETE"
"""By this variable the script asks us, as typer's scripts do."""


def write_script(shell: str, file: Path) -> None:
    """Write typer's script for that shell to `file`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    from zrepl_trio.cli.exitcodes import ExitCode

    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)
    try:
        file.write_text(f"{script}\n")
    except OSError as error:
        fail(f"cannot write {file}: {error.strerror}", ExitCode.FAILED)


def complete_here() -> None:
    """Make ready to answer the script, if it asks."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
