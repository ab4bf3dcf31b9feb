"""The types of config fields with durations in Go's grammar, which are not zrepl's own (`scalars`)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from zrepl_trio.config import scalars
from zrepl_trio.config.base import Reads, bad, int_of, parsed
from zrepl_trio.config.nodes import PlainScalar

__all__ = ["GoDuration", "GoTimeout", "ZfsTimeout"]


def _go_duration(value: object) -> float:
    if value is None:
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    # go-yaml stores a bare number into a Duration as it is: nanoseconds.
    if isinstance(value, PlainScalar) and re.fullmatch(r"[+-]?[0-9][0-9_]*", value):
        return int_of(value) / 1e9
    return parsed(scalars.parse_go_duration, float, scalars.GO_DURATION_WORDS)(value)


def _go_at_least_zero(value: object) -> float:
    seconds = _go_duration(value)
    if seconds < 0:
        raise bad("must not be negative", f"0 or {scalars.GO_DURATION_WORDS}")
    return seconds


def _go_positive(value: object) -> float:
    seconds = _go_duration(value)
    if seconds <= 0:
        raise bad("must be more than 0", scalars.GO_DURATION_WORDS)
    return seconds


_GO_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": r"^\+?(0|([0-9]*\.?[0-9]*(ns|us|µs|μs|ms|s|m|h))+)$"},
        {"type": "integer", "minimum": 0, "description": "nanoseconds"},
    ],
    "description": scalars.GO_DURATION_WORDS,
}
GoDuration = Annotated[float, Reads(_go_at_least_zero, scalars.format_go_duration, _GO_SCHEMA)]
"""Seconds, 0 or more, in Go's grammar (`1m30s`; a bare number is nanoseconds)."""
GoTimeout = Annotated[float, Reads(_go_positive, scalars.format_go_duration, _GO_SCHEMA)]
"""Seconds, more than 0, in Go's grammar."""

_PATIENCE_S = 1.0
"""A zfs command gets at least that long: loaded pools pause for longer than any millisecond."""


def _zfs_timeout(value: object) -> float:
    seconds = _go_positive(value)
    if isinstance(value, PlainScalar) and re.fullmatch(r"[0-9_]+", value):
        # the key is ours, so it has not to be read as zrepl reads others
        raise bad(
            f"{value} has no unit, which would be nanoseconds: write {int_of(value)}s for seconds",
            scalars.GO_DURATION_WORDS,
        )
    if seconds < _PATIENCE_S:
        raise bad(
            f"{value} is too short: it kills a zfs that is only slow (1s is the least)",
            scalars.GO_DURATION_WORDS,
        )
    return seconds


ZfsTimeout = Annotated[
    float, Reads(_zfs_timeout, scalars.format_go_duration, _GO_SCHEMA["anyOf"][0])
]
"""Seconds, 1 or more, in Go's grammar, with a unit."""
