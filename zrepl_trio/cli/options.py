"""Options that several commands have; `--config` may stand before or after the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigOption", "DestroyForeignOption", "ResolveOption", "chosen_config"]

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

ResolveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--resolve",
        metavar="FS=rollback|keep_copy|fail",
        help="What becomes of this filesystem's replica if it no longer fits, this once.",
        show_default=False,
    ),
]
DestroyForeignOption = Annotated[
    bool,
    typer.Option(
        "--destroy-foreign",
        help="Let go also the snapshots that the job did not take, where its rules do, this once.",
    ),
]


def chosen_config(ctx: typer.Context, own: Path | None) -> Path | None:
    """The command's own `--config`, else the nearest before it; None: the default places."""
    if own is not None:
        return own
    before = ctx.obj  # each context starts with the one around it
    return before if isinstance(before, Path) else None
