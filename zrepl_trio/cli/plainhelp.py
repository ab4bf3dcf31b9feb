"""Commands whose help speaks of JOB and DIR, not of Python's types, whichever typer is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

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


class Cli(typer.Typer):
    """A typer whose commands have that help; each argument needs a `metavar`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        return super().command(name, cls=_Command, **settings)
