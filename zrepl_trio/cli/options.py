"""`--config`, before or after the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigOption", "chosen_config"]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Config file (default: /etc/zrepl/zrepl.yml, then /usr/local/etc/zrepl/zrepl.yml).",
        show_default=False,
        readable=False,  # looked at where it is read: the parser's own look is a usage error
    ),
]


def chosen_config(ctx: typer.Context, own: Path | None) -> Path | None:
    """The command's own `--config`, else the nearest before it; None: the default places."""
    if own is not None:
        return own
    before = ctx.obj  # each context starts with the one around it
    return before if isinstance(before, Path) else None
