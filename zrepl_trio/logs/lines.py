"""One log event with its fields in, one line out: zrepl's three formats.

The prefix has zrepl's order (time, level, job, subsystem, span). Text may come from a peer, so
every character that could act on a terminal or forge a line is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum, IntEnum

from zrepl_trio.values import valueclass

__all__ = ["Entry", "Format", "Level", "escape", "render"]


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


@valueclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event; `fields` holds everything but time, level and text."""

    time: datetime
    level: Level
    msg: str
    fields: Mapping[str, object]


PREFIX_FIELDS = ("job", "subsystem", "span")
_SHORT = {Level.DEBUG: "DEBG", Level.INFO: "INFO", Level.WARN: "WARN", Level.ERROR: "ERRO"}
_COLORS = {Level.DEBUG: 94, Level.INFO: 92, Level.WARN: 93, Level.ERROR: 91}
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


def _human(entry: Entry, *, time: bool, level: bool, color: bool) -> str:
    def paint(text: str) -> str:
        return f"\x1b[{_COLORS[entry.level]}m{text}\x1b[0m" if color else text

    prefix = paint(f"[{_SHORT[entry.level]}]") if level else ""
    prefix += "".join(
        paint(f"[{escape(str(entry.fields[name]))}]")
        for name in PREFIX_FIELDS
        if name in entry.fields
    )
    rest = "".join(
        f" {paint(name)}={quote(value)}"
        for name, value in entry.fields.items()
        if name not in PREFIX_FIELDS
    )
    stamp = _timestamp(entry.time) if time else ""
    before = " ".join(part for part in (stamp, prefix) if part)
    return f"{before}: {escape(entry.msg)}{rest}" if before else f"{escape(entry.msg)}{rest}"


def _logfmt_value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(char in ' ="\\' for char in text)
    return text if plain else quote(text)


def _logfmt(entry: Entry, *, time: bool, level: bool) -> str:
    pairs: list[tuple[str, object]] = []
    if time:
        pairs.append(("time", _timestamp(entry.time)))
    if level:
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


def render(
    entry: Entry,
    form: Format,
    *,
    time: bool = True,
    level: bool = True,
    color: bool = False,
) -> str:
    """The line for `entry`, without a newline. JSON always has time and level."""
    match form:
        case Format.HUMAN:
            return _human(entry, time=time, level=level, color=color)
        case Format.LOGFMT:
            return _logfmt(entry, time=time, level=level)
        case Format.JSON:
            return _json(entry)
