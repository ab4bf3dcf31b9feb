"""Which of zrepl's durations a zfs command counts for, by its arguments alone. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["Duration", "TimedCommand", "timed_command"]


class Duration(Enum):
    """zrepl's histograms of single commands; the value is the middle of the metric's name."""

    LIST = "list_filesystem_versions"
    SNAPSHOT = "snapshot"
    BOOKMARK = "bookmark"
    DESTROY = "destroy"


@dataclass(frozen=True, slots=True)
class TimedCommand:
    """What a command did, to which filesystem; `dataset_type` is only told for DESTROY."""

    duration: Duration
    filesystem: str
    dataset_type: str = ""


_TYPES = {"@": "snapshot", "#": "bookmark", "": "filesystem"}


def timed_command(argv: Sequence[str]) -> TimedCommand | None:
    """What to time of `argv`, as `zfs.argv` makes it; None for all other commands."""
    if len(argv) < 3 or os.path.basename(argv[0]) != "zfs":
        return None
    target = argv[-1]
    sign = next((char for char in target if char in "@#"), "")
    filesystem = target.partition(sign)[0] if sign else target
    match argv[1]:
        case "list" if any("snapshot" in word.split(",") for word in argv[2:-1]):
            return TimedCommand(Duration.LIST, filesystem)
        case "snapshot":
            return TimedCommand(Duration.SNAPSHOT, filesystem)
        case "bookmark":
            return TimedCommand(Duration.BOOKMARK, filesystem)
        case "destroy":
            return TimedCommand(Duration.DESTROY, filesystem, _TYPES[sign])
        case _:
            return None
