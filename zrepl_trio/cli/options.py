"""Options that several commands have; `--config` all of them, before the command's name or behind it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

__all__ = ["DestroyForeignOption", "ResolveOption", "chosen_config", "with_config"]

_ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Config file (default: /etc/zrepl/zrepl.yml, then /usr/local/etc/zrepl/zrepl.yml).",
        show_default=False,
        readable=False,  # looked at where it is read: the parser's own look is a usage error
    ),
]

_KEYWORD = inspect.Parameter.KEYWORD_ONLY

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


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command (or the callback of a group) with the option `--config`, for `chosen_config`; one
    with a `config` of its own as it is."""
    signature = inspect.signature(command)
    if "config" in signature.parameters:
        return command
    hints = get_type_hints(command, include_extras=True)
    takes_context = "ctx" in signature.parameters

    @functools.wraps(command)
    def taking(*, ctx: typer.Context, config: Path | None, **arguments: Any) -> Any:
        if config is not None:
            ctx.obj = config
        return command(**({"ctx": ctx} if takes_context else {}), **arguments)

    hints |= {"ctx": typer.Context, "config": _ConfigOption}
    parameters = {} if takes_context else {"ctx": inspect.Parameter("ctx", _KEYWORD)}
    parameters |= signature.parameters
    parameters["config"] = inspect.Parameter("config", _KEYWORD, default=None)
    # Which of the two typer reads depends on its version.
    taking.__annotations__ = hints
    taking.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            each.replace(kind=_KEYWORD, annotation=hints[name]) for name, each in parameters.items()
        ]
    )
    return taking


def chosen_config(ctx: typer.Context) -> Path | None:
    """The last `--config` on the command line; None: the default places."""
    chosen = ctx.obj  # each context starts with the one around it
    return chosen if isinstance(chosen, Path) else None
