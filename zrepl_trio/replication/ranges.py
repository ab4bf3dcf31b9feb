"""How many steps of a filesystem go in one stream. Pure.

Each stream costs both sides a dozen commands, which is most of the work when many small snapshots are
to catch up. So neighbouring snapshots go together, as many as are likely to take RANGE_S: long enough
for that cost not to matter, and short enough for filesystems to take turns and for cursor and holds,
which move at the end of a range, to follow.
"""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.endpoint.model import MAX_RANGE
from zrepl_trio.replication.plan import Step
from zrepl_trio.values import valueclass

__all__ = ["FIRST_BUDGET", "RANGE_S", "Budget", "joinable", "next_budget", "reach", "streams"]

RANGE_S = 60.0
"""How long a range is meant to take."""

_MIN_BYTES = 64 << 20
_GROWTH = 8


@valueclass(frozen=True, slots=True)
class Budget:
    """What one range may have: snapshots and bytes. One snapshot is always taken, whatever its size."""

    steps: int
    size: int


FIRST_BUDGET = Budget(steps=100, size=1 << 30)
"""Until a range of the filesystem has shown how fast it goes."""


def _may_be_joined(step: Step) -> bool:
    """Whether it can be in a range with others: zfs starts none at a bookmark, and resumes a single
    snapshot only."""
    return step.from_ is not None and step.from_.is_snapshot and step.resume_token is None


def joinable(steps: Sequence[Step], start: int, *, at_most: int = MAX_RANGE) -> int:
    """How many of the steps from `start` on could go in one stream; 1 when it must go alone."""
    count = 0
    while count < at_most and start + count < len(steps) and _may_be_joined(steps[start + count]):
        count += 1
    return max(count, 1)


def reach(sizes: Sequence[int | None], budget: Budget) -> int:
    """How many of the next steps, of these sizes in bytes, are within the budget; at least 1. One of
    unknown size goes alone, since it may be anything."""
    count = total = 0
    for size in sizes[: budget.steps]:
        if size is None:
            break
        total += size
        if total > budget.size:
            break
        count += 1
    return max(count, 1)


def next_budget(budget: Budget, *, steps: int, size: int, seconds: float) -> Budget:
    """The budget after a range of that many steps and bytes took so long.

    The range used up one limit of the two or neither, so each is scaled by what was really moved,
    and none falls because of the other.
    """
    room = RANGE_S / max(seconds, 0.001)
    if room < 1:
        return Budget(
            steps=max(1, int(steps * room)),
            size=max(_MIN_BYTES, int(size * room)),
        )
    room = min(room, _GROWTH)
    return Budget(
        steps=min(MAX_RANGE, max(budget.steps, int(steps * room))),
        size=max(budget.size, int(size * room)),
    )


def streams(steps: Sequence[Step], sizes: Sequence[int | None]) -> list[range]:
    """Which steps go together, by their index, as long as no range has shown how fast it goes."""
    found: list[range] = []
    start = 0
    while start < len(steps):
        count = joinable(steps, start)
        if count > 1:
            count = reach(sizes[start : start + count], FIRST_BUDGET)
        found.append(range(start, start + count))
        start += count
    return found
