"""Where commands print: rich on a terminal, plain text elsewhere."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console

__all__ = ["console"]


def console(file: TextIO) -> Console:
    """A console on `file`; off a terminal lines are never wrapped or coloured."""
    if file.isatty():
        return Console(file=file, highlight=False, markup=False, emoji=False)
    return Console(
        file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, no_color=True
    )
