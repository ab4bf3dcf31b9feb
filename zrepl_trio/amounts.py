"""Amounts as a person reads them: numbers of things, bytes, rates, durations."""

from __future__ import annotations

__all__ = ["bytes_text", "counted", "duration_text", "rate_text"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def counted(count: int, one: str, many: str) -> str:
    """`1 snapshot is`, `2 snapshots are`: the number with those words of the two that go with it."""
    return f"{count} {one if count == 1 else many}"


def bytes_text(count: float) -> str:
    """`512 B`, `1.5 MiB`: zrepl's form (behaviour reference 7.3)."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in _UNITS:
        count /= 1024
        # 1023.95 and more would be shown as 1024.0 of the smaller unit.
        if count < 1023.95 or unit == _UNITS[-1]:
            return f"{count:.1f} {unit}"
    raise AssertionError


def rate_text(count: float, seconds: float) -> str:
    """Bytes over a time; empty when the time is too short to tell."""
    return f"{bytes_text(count / seconds)}/s" if seconds >= 0.001 else ""


def duration_text(seconds: float) -> str:
    """`40 ms`, `2.1 s`, `4m 05s`, `3h 20m`, `5d 2h`."""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, whole_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {whole_s:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24}h"
