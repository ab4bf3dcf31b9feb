"""Commands whose help speaks of JOB and DIR, not of Python's types, whichever typer is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from zrepl_trio.cli.options import with_config

__all__ = ["Cli"]

F = TypeVar("F", bound=Callable[..., Any])


class _Command(TyperCommand):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *self._arguments(ctx)]

    def _arguments(self, ctx: Any) -> Iterator[str]:
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                many = "..." if parameter.nargs != 1 else ""
                if many and not ctx.allow_interspersed_args:
                    yield "--"  # what follows has options of its own
                name = f"{parameter.metavar}{many}"
                yield name if parameter.required else f"[{name}]"

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for kind, title in (("argument", "Arguments"), ("option", "Options")):
            records = [
                (parameter.metavar if kind == "argument" else record[0], record[1])
                for parameter in self.get_params(ctx)
                if parameter.param_type_name == kind and (record := parameter.get_help_record(ctx))
            ]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _only_options() -> None:
    """What a group does before its command."""


class Cli(typer.Typer):
    """A typer whose commands have that help, and `--config`, as the group itself; each argument needs
    a `metavar`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(callback=with_config(_only_options), **settings)

    def command(
        self, name: str | None = None, *, reads_configs: bool = True, **settings: Any
    ) -> Callable[[F], F]:
        """False for what zrepl does not have and no config means anything to."""
        add = super().command(name, cls=_Command, **settings)

        def adding(function: F) -> F:
            add(with_config(function) if reads_configs else function)
            return function

        return adding
