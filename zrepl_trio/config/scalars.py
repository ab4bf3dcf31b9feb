"""zrepl's two duration grammars and its size units: parse and print.

Durations are float seconds, sizes float bits. Mind which grammar a key uses: `interval` takes
`10m`, `2d` (one integer, one unit), `dial_timeout` takes Go's `1m30s`, and there a bare number
means nanoseconds.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

__all__ = [
    "DURATION_WORDS",
    "GO_DURATION_WORDS",
    "SIZE_WORDS",
    "ScalarError",
    "format_duration",
    "format_go_duration",
    "format_size",
    "parse_duration",
    "parse_go_duration",
    "parse_size",
]

DURATION_WORDS = "an integer with one of the units s m h d w, such as 10m or 2d"
GO_DURATION_WORDS = "numbers with the units ns us ms s m h, such as 10s or 1m30s"
SIZE_WORDS = "a number, then bit, b (bits) or B (bytes), with K Ki M Mi G Gi T Ti in front of b or B, such as 10 MiB"

_DURATION = re.compile(r"\s*([+-]?[0-9]{1,12})\s*(|s|m|h|d|w)\s*", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_GO_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_GO_UNIT_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_GO_MAX_NS = 2**63 - 1  # a Go Duration is an int64 of nanoseconds

_SIZE = re.compile(
    r"(-?[0-9]{1,24}(?:\.[0-9]{0,24})?|-?\.[0-9]{1,24})\s*(bit|(?:|K|Ki|M|Mi|G|Gi|T|Ti)[bB])",
    re.ASCII,
)
_SIZE_FACTOR = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


class ScalarError(ValueError):
    """A scalar that does not follow its grammar; `accepted` says what does."""

    def __init__(self, message: str, accepted: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.accepted = accepted


def parse_duration(text: str) -> float:
    """Seconds of one of zrepl's own durations (`10m`, `2d`, `0`); ScalarError otherwise."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ScalarError(f"{text!r} is not a duration", DURATION_WORDS)
    count, unit = int(match[1]), match[2]
    if not unit and count:
        raise ScalarError(f"{text!r} lacks a unit", DURATION_WORDS)
    seconds = count * _UNIT_S.get(unit, 0)
    if abs(seconds) * 10**9 > _GO_MAX_NS:
        raise ScalarError(f"{text!r} is longer than 292 years", DURATION_WORDS)
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds` (whole seconds)."""
    whole = int(seconds)
    for unit, factor in reversed(_UNIT_S.items()):
        if whole and whole % factor == 0:
            return f"{whole // factor}{unit}"
    return "0"


def parse_go_duration(text: str) -> float:
    """Seconds of a Go `time.ParseDuration` text (`1h30m`, `1.5s`, `0`); ScalarError otherwise."""
    rest = text
    sign = 1
    if rest[:1] in {"+", "-"} and rest:
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0.0
    if not rest:
        raise ScalarError(f"{text!r} is not a duration", GO_DURATION_WORDS)
    total = Fraction(0)
    while rest:
        match = _GO_TERM.match(rest)
        if match is None or not (match[1] or match[2]):
            unit = re.match(r"[0-9.]+([dw])", rest)
            hint = f" (no unit {unit[1]!r} here: write hours)" if unit else ""
            raise ScalarError(f"{text!r} is not a duration{hint}", GO_DURATION_WORDS)
        number = Fraction(f"{match[1] or '0'}.{match[2] or '0'}")
        total += number * _GO_UNIT_NS[match[3]]
        if total > _GO_MAX_NS:
            raise ScalarError(f"{text[:40]!r} is longer than 292 years", GO_DURATION_WORDS)
        rest = rest[match.end() :]
    return sign * int(total) / 1e9


def format_go_duration(seconds: float) -> str:
    """The text that `parse_go_duration` reads as `seconds` (to the nanosecond)."""
    nanoseconds = round(Fraction(seconds) * 10**9)
    sign = "-" if nanoseconds < 0 else ""
    nanoseconds = abs(nanoseconds)
    if nanoseconds == 0:
        return "0s"
    terms = []
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        count, nanoseconds = divmod(nanoseconds, _GO_UNIT_NS[unit])
        if count:
            terms.append(f"{count}{unit}")
    return sign + "".join(terms)


def parse_size(text: str) -> float:
    """Bits of a size with unit (`10 MiB`, `1 Kb`, `23 bit`, `-1 B`); ScalarError otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ScalarError(f"{text!r} is not a size with a unit", SIZE_WORDS)
    number = Decimal(match[1])
    if match[2] == "bit":
        if number != number.to_integral_value():
            raise ScalarError(f"{text!r}: a number of bits is a whole one", SIZE_WORDS)
        return float(number)
    prefix, letter = match[2][:-1], match[2][-1]
    return float(number * _SIZE_FACTOR[prefix] * (8 if letter == "B" else 1))


def format_size(bits: float) -> str:
    """The text that `parse_size` reads as `bits`."""
    if bits != int(bits):
        return f"{Decimal(repr(bits)):f} b"
    whole = int(bits)
    if whole % 8:
        return f"{whole} bit"
    size = whole // 8
    for prefix in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _SIZE_FACTOR[prefix] == 0:
            return f"{size // _SIZE_FACTOR[prefix]} {prefix}B"
    return f"{size} B"
