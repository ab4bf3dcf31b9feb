"""structlog's events as entries for the outlets; code logs by
`structlog.get_logger().info("connected", peer=…)`.

`job`, `subsystem` and the like are bound once by context variables, which follow tasks.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from zrepl_trio.clock import WallClock
from zrepl_trio.logs.lines import Entry, Level

__all__ = ["REPORT_EVERY", "Dispatcher", "Outlet", "logging_to"]

REPORT_EVERY = timedelta(minutes=10)
"""How often the same outlet's trouble is reported on the others."""

_METHOD_LEVELS = {
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "warning": Level.WARN,
    "warn": Level.WARN,
    "error": Level.ERROR,
    "exception": Level.ERROR,
    "critical": Level.ERROR,
    "fatal": Level.ERROR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """A place for lines: entries below `level` are left out.

    `encode` gives a line in its final form; `put` takes it, from any thread, without ever
    waiting or raising: False tells that a line was lost for it. `kind` and `place` are for people.
    """

    kind: str
    place: str = ""
    level: Level
    encode: Callable[[Entry], bytes]
    put: Callable[[bytes], bool]


class Dispatcher:
    """Hands entries to the outlets, and tells of the trouble of one on the others."""

    def __init__(self, clock: WallClock, on_entry: Callable[[Entry], None] | None = None) -> None:
        """`on_entry` is called with every entry, those below all outlets' levels included."""
        self._clock = clock
        self._on_entry = on_entry
        self._outlets: list[Outlet] = []
        self._last_resort: list[Outlet] = []
        self._reported: dict[Outlet, datetime] = {}

    def add(self, outlet: Outlet, *, last_resort: bool = False) -> None:
        """One more outlet; a last resort hears of trouble when there is no other outlet, and of
        nothing else."""
        (self._last_resort if last_resort else self._outlets).append(outlet)

    @property
    def outlets(self) -> Sequence[Outlet]:
        """Those that take events."""
        return self._outlets

    @property
    def lowest(self) -> Level:
        """The least severe level that anybody takes."""
        if self._on_entry is not None:
            return Level.DEBUG
        return min((outlet.level for outlet in self._outlets), default=Level.ERROR)

    def emit(self, level: Level, msg: str, fields: dict[str, object]) -> None:
        """Tell all outlets that take entries of this level."""
        entry = Entry(time=self._clock.now(), level=level, msg=msg, fields=fields)
        if self._on_entry is not None:
            self._on_entry(entry)
        for outlet in self._outlets:
            if level >= outlet.level and not outlet.put(outlet.encode(entry)):
                self.trouble(outlet, "it takes nothing, or too slowly; the oldest lines are lost")

    def trouble(self, outlet: Outlet, why: str) -> None:
        """Tell the other outlets what is wrong with `outlet`, unless they were told of late."""
        now = self._clock.now()
        last = self._reported.get(outlet)
        # abs: a clock that was set back must not silence us
        if last is not None and abs(now - last) < REPORT_EVERY:
            return
        self._reported[outlet] = now
        fields = {"outlet_type": outlet.kind, "outlet": outlet.place, "err": why}
        shown = {name: value for name, value in fields.items() if value}
        entry = Entry(time=now, level=Level.ERROR, msg="outlet error", fields=shown)
        others = [other for other in self._outlets if other is not outlet]
        for other in others or self._last_resort:
            # what this loses in its turn is counted there, and reported by its next own line
            other.put(other.encode(entry))

    def lost(self, lines: int) -> Entry:
        """What an outlet is to say in the place of so many lost lines."""
        now = self._clock.now()
        return Entry(time=now, level=Level.WARN, msg="log lines lost", fields={"lines": lines})


def _exception_fields(info: object) -> dict[str, object]:
    match info:
        case BaseException() as error:
            pass
        case (_, BaseException() as error, _):
            pass
        case True:
            current = sys.exc_info()[1]
            if current is None:
                return {}
            error = current
        case _:
            return {}
    return {
        "err": str(error) or repr(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


@contextmanager
def logging_to(dispatcher: Dispatcher, *, leave_out: Set[str] = frozenset()) -> Iterator[None]:
    """Send the whole process's structlog events to `dispatcher` for the length of the block.

    Events named in `leave_out` are for a caller that tells of them in another way.
    """

    def emit(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        fields = dict(event)
        msg = str(fields.pop("event", ""))
        if msg in leave_out:
            raise structlog.DropEvent
        info = fields.pop("exc_info", None)
        if info:
            fields = {**fields, **_exception_fields(info)}
        fields = {
            name: str(value) if isinstance(value, BaseException) else value
            for name, value in fields.items()
        }
        dispatcher.emit(_METHOD_LEVELS[method], msg, fields)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, emit],
        wrapper_class=structlog.make_filtering_bound_logger(int(dispatcher.lowest)),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
