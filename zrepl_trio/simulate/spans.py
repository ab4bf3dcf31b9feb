"""Spans of time as a person gives them on the command line. Pure."""

from __future__ import annotations

import re

from zrepl_trio.errors import UsageRefused

__all__ = ["SPAN_WORDS", "parse_span"]

SPAN_WORDS = "a number and one of m h d w y, such as 48h, 90d or 1y; up to 100 years"

MOST_YEARS = 100
"""So that the end of no span is out of the calendar."""

_SPAN = re.compile(r"([0-9]{1,6})([mhdwy])", re.ASCII)
_UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


def parse_span(text: str, what: str) -> int:
    """Seconds of `1y`, `48h`; a year has 365 days. UsageRefused names `what` it was to be."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise UsageRefused(f"{what}: {text!r} is no span of time (accepted: {SPAN_WORDS})")
    seconds = int(match[1]) * _UNIT_S[match[2]]
    if seconds > MOST_YEARS * _UNIT_S["y"]:
        raise UsageRefused(f"{what}: {text!r} is longer than {MOST_YEARS} years")
    return seconds
