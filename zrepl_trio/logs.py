"""Structured logs: one event with fields goes in, one line a listening outlet comes out.

Code logs by `structlog.get_logger().info("connected", peer=…)`; `job`, `subsystem` and the like
are bound once by context variables, which follow tasks. Lines are zrepl's three formats, with
its prefix order (time, level, job, subsystem, span). Text may come from a peer, so every
character that could act on a terminal or forge a line is escaped.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, Protocol, TextIO

import structlog

from zrepl_trio.clock import WallClock
from zrepl_trio.config.model import StdoutOutlet, SyslogOutlet, TcpOutlet

__all__ = [
    "Entry",
    "Format",
    "Level",
    "Outlet",
    "TextSink",
    "configure",
    "escape",
    "outlets_of",
    "render",
    "stdout_outlet",
]


class Level(IntEnum):
    """Severity, numbered as `logging` does."""

    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40


class Format(Enum):
    """zrepl's line formats."""

    HUMAN = "human"
    LOGFMT = "logfmt"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event; `fields` holds everything but time, level and text."""

    time: datetime
    level: Level
    msg: str
    fields: Mapping[str, object]


class TextSink(Protocol):
    """Where lines go; a file object will do."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """A place for lines: entries below `level` are left out."""

    level: Level
    format: Format
    sink: TextSink
    time: bool = True
    color: bool = False


PREFIX_FIELDS = ("job", "subsystem", "span")
_SHORT = {Level.DEBUG: "DEBG", Level.INFO: "INFO", Level.WARN: "WARN", Level.ERROR: "ERRO"}
_COLORS = {Level.DEBUG: 94, Level.INFO: 92, Level.WARN: 93, Level.ERROR: 91}
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
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def escape(text: str) -> str:
    """`text` with all that is not printable written as an escape; quotes stay."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else _ESCAPES.get(char)
        or (f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
        for char in text
    )


def quote(value: object) -> str:
    """`value` in double quotes, escaped so that it stays one word on one line."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape(text)}"'


def _timestamp(time: datetime) -> str:
    return time.astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")


def _human(entry: Entry, *, time: bool, color: bool) -> str:
    def paint(text: str) -> str:
        return f"\x1b[{_COLORS[entry.level]}m{text}\x1b[0m" if color else text

    prefix = "".join(
        paint(f"[{escape(str(entry.fields[name]))}]")
        for name in PREFIX_FIELDS
        if name in entry.fields
    )
    rest = "".join(
        f" {paint(name)}={quote(value)}"
        for name, value in entry.fields.items()
        if name not in PREFIX_FIELDS
    )
    stamp = f"{_timestamp(entry.time)} " if time else ""
    return f"{stamp}{paint(f'[{_SHORT[entry.level]}]')}{prefix}: {escape(entry.msg)}{rest}"


def _logfmt_value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(char in ' ="\\' for char in text)
    return text if plain else quote(text)


def _logfmt(entry: Entry, *, time: bool) -> str:
    pairs: list[tuple[str, object]] = []
    if time:
        pairs.append(("time", _timestamp(entry.time)))
    pairs.append(("level", entry.level.name.lower()))
    taken = []
    for name in PREFIX_FIELDS:
        if name not in entry.fields:
            break
        taken.append(name)
        pairs.append((name, entry.fields[name]))
    pairs.append(("msg", entry.msg))
    pairs.extend((name, value) for name, value in entry.fields.items() if name not in taken)
    return " ".join(f"{name}={_logfmt_value(value)}" for name, value in pairs)


def _json(entry: Entry) -> str:
    document = {
        **entry.fields,
        "msg": entry.msg,
        "time": _timestamp(entry.time),
        "level": entry.level.name.lower(),
    }
    return json.dumps(document, sort_keys=True, default=str)


def render(entry: Entry, outlet_format: Format, *, time: bool = True, color: bool = False) -> str:
    """The line for `entry`, without a newline. JSON always has time and level."""
    match outlet_format:
        case Format.HUMAN:
            return _human(entry, time=time, color=color)
        case Format.LOGFMT:
            return _logfmt(entry, time=time)
        case Format.JSON:
            return _json(entry)


def stdout_outlet(
    level: Level,
    outlet_format: Format,
    *,
    time: bool,
    color: bool,
    stream: TextIO | None = None,
) -> Outlet:
    """The `stdout` outlet as zrepl reads its keys: `time` acts off a tty, `color` on one."""
    sink: Any = stream or sys.stdout
    tty = sink.isatty()
    return Outlet(
        level=level,
        format=outlet_format,
        sink=sink,
        time=True if tty else time,
        color=color if tty else False,
    )


def outlets_of(
    sections: Sequence[StdoutOutlet | SyslogOutlet | TcpOutlet],
    stream: TextIO | None = None,
) -> list[Outlet]:
    """The outlets of `global.logging`, `stdout` ones on `stream` (None: stdout).

    An explicitly empty list means one bare outlet for warnings, as in zrepl (reference 1.4).
    Kinds that are not built were refused before (`config.support`).
    """
    return [
        stdout_outlet(
            Level[section.level.upper()],
            Format(section.format),
            time=section.time,
            color=section.color,
            stream=stream,
        )
        for section in sections
        if isinstance(section, StdoutOutlet)
    ] or [stdout_outlet(Level.WARN, Format.HUMAN, time=False, color=False, stream=stream)]


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


def configure(
    outlets: Sequence[Outlet], clock: WallClock, *, leave_out: Set[str] = frozenset()
) -> None:
    """Send the whole process's structlog events to `outlets`; the last call wins.

    Events named in `leave_out` are for a caller that tells of them in another way. A sink that fails (a closed pipe, a full disk) loses its lines and nothing else.
    """
    outlets = tuple(outlets)

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
        entry = Entry(time=clock.now(), level=_METHOD_LEVELS[method], msg=msg, fields=fields)
        for outlet in outlets:
            if entry.level < outlet.level:
                continue
            line = render(entry, outlet.format, time=outlet.time, color=outlet.color)
            try:
                outlet.sink.write(line + "\n")
                outlet.sink.flush()
            except (OSError, ValueError):
                continue
        raise structlog.DropEvent

    lowest = min((outlet.level for outlet in outlets), default=Level.ERROR)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, emit],
        wrapper_class=structlog.make_filtering_bound_logger(int(lowest)),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
