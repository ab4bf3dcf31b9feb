"""Which of a batch of snapshots a failed command was about, and what to try next. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = [
    "MAX_ARGUMENT_BYTES",
    "POINTER_BYTES",
    "chunked",
    "destroy_failures",
    "harmless_refusals",
    "snapshot_refusals",
]

N = TypeVar("N", bound=str)

MAX_ARGUMENT_BYTES = 100_000
"""Most bytes of snapshot names in one argument, as the comma form is: Linux takes 128 KiB
(`MAX_ARG_STRLEN`). Of arguments apart a command takes more, see `Zfs.argument_bytes`."""

POINTER_BYTES = 8
"""What an argument of its own costs on top, as the system counts: its place in `argv`."""

_DESTROY = re.compile(r"^cannot destroy snapshot ([^@]+)@(.+?): (.*)$")
_HARMLESS = re.compile(
    r"^cannot (?:hold snapshot|release hold from snapshot) '([^'@]+)@([^']+)': (.*)$"
)
_SNAPSHOT = re.compile(
    r"^cannot (?:create snapshot|open) '([^'@]+)(?:@[^']*)?': (.*)$", re.MULTILINE
)


def chunked(names: Sequence[N], prefix: int, limit: int = MAX_ARGUMENT_BYTES) -> Iterator[list[N]]:
    """The names in batches of at most `limit` bytes; each costs `prefix` bytes on top, and one for its
    end. A name that is longer is a batch of its own."""
    batch: list[N] = []
    size = 0
    for name in names:
        cost = len(name.encode()) + prefix + 1
        if batch and size + cost > limit:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += cost
    if batch:
        yield batch


def destroy_failures(stderr: str, dataset: str) -> dict[str, str] | None:
    """Snapshot name to reason, if every line of stderr names one; else None."""
    found = {}
    for line in stderr.splitlines():
        match = _DESTROY.match(line)
        if match is None or match[1] != dataset:
            return None
        found[match[2]] = match[3]
    return found or None


def harmless_refusals(stderr: str, dataset: str, reasons: Sequence[str]) -> set[str] | None:
    """The snapshots that a hold or release refused for one of `reasons`, if every line of stderr
    is such a refusal; else None."""
    found = set()
    for line in stderr.splitlines():
        match = _HARMLESS.match(line)
        if match is None or match[1] != dataset or match[3] not in reasons:
            return None
        found.add(match[2])
    return found or None


def snapshot_refusals(stderr: str) -> dict[str, str]:
    """Dataset to reason, of those that a `zfs snapshot` of several names as in the way. The first reason
    counts; lines that name none are passed over, as zfs may print its usage behind them."""
    found: dict[str, str] = {}
    for match in _SNAPSHOT.finditer(stderr):
        found.setdefault(match[1], match[2])
    return found
