"""An outlet that keeps its lines for a test to look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zrepl_trio.clock import WallClock
from zrepl_trio.logs.events import Dispatcher, Outlet, logging_to
from zrepl_trio.logs.lines import Format, Level, render

__all__ = ["collecting", "logged"]


def collecting(
    level: Level, form: Format = Format.HUMAN, *, kind: str = "test", takes: bool = True
) -> tuple[Outlet, list[str]]:
    """The outlet and its lines, without time; unless it `takes`, each costs it an older one."""
    lines: list[str] = []

    def put(line: bytes) -> bool:
        lines.append(line.decode())
        return takes

    outlet = Outlet(
        kind=kind,
        level=level,
        encode=lambda entry: render(entry, form, time=False).encode(),
        put=put,
    )
    return outlet, lines


@contextmanager
def logged(clock: WallClock, level: Level, form: Format = Format.HUMAN) -> Iterator[list[str]]:
    """The lines that the process logs in the block."""
    outlet, lines = collecting(level, form)
    dispatcher = Dispatcher(clock)
    dispatcher.add(outlet)
    with logging_to(dispatcher):
        yield lines
