"""The one place that turns an error into what a user sees: its text on stderr, and a status."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

__all__ = ["Commands", "fail"]


def fail(text: str, code: int) -> NoReturn:
    """End the command with `text` on stderr and that status."""
    print(f"zrepl-trio: {text}", file=sys.stderr)
    raise typer.Exit(code)


class Commands(TyperGroup):
    """A group whose commands may raise ZreplErrors; what else they raise is a bug, and shown so."""

    def invoke(self, ctx: Any) -> Any:
        from zrepl_trio.cli.exitcodes import ExitCode, exit_code
        from zrepl_trio.cli.output import OutputFailed
        from zrepl_trio.errors import ConfigErrors, ZreplError, leaves

        try:
            return super().invoke(ctx)
        except (ZreplError, BaseExceptionGroup) as error:
            found = list(leaves(error))
            known = [leaf for leaf in found if isinstance(leaf, ZreplError)]
            if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
                raise typer.Exit(ExitCode.INTERRUPTED) from None
            for leaf in known:
                if isinstance(leaf, OutputFailed):
                    raise leaf from None
            if len(known) < len(found):
                raise
            for text in dict.fromkeys(str(leaf) for leaf in known[:-1]):
                print(f"zrepl-trio: {text}", file=sys.stderr)
            if isinstance(known[-1], ConfigErrors):
                # One line a problem, each with its place first, as editors like it.
                print(known[-1], file=sys.stderr)
                raise typer.Exit(ExitCode.CONFIG) from None
            fail(str(known[-1]), exit_code(known[-1]))
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
