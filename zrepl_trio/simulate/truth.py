"""What each snapshot is, on whichever host: a guid leads to the dataset it was taken of, and to what that
held. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.simulate.workload import Workload
from zrepl_trio.values import valueclass

__all__ = ["Kept", "Origin", "Taken", "Truth"]


@valueclass(frozen=True, slots=True, order=True)
class Origin:
    """A dataset that is written to."""

    host: str
    dataset: str

    def __str__(self) -> str:
        return f"{self.host}:{self.dataset}"


@valueclass(frozen=True, slots=True)
class Taken:
    """A snapshot as it was taken; for `position` see `workload`."""

    origin: Origin
    creation: int
    position: int
    workload: Workload


class Truth:
    """All snapshots that were ever taken."""

    def __init__(self) -> None:
        self._taken: dict[int, Taken] = {}

    def take(self, guid: int, taken: Taken) -> None:
        self._taken[guid] = taken

    def of(self, guid: int) -> Taken | None:
        """None for what was taken of a dataset that nothing is written to."""
        return self._taken.get(guid)

    def sent(self, base: int | None, to: int) -> int:
        """Bytes of a stream from one guid (None: a full one) to another."""
        new = self._taken.get(to)
        if new is None:
            return 0
        old = self._taken.get(base) if base is not None else None
        if old is None or old.origin != new.origin:
            return int(new.workload.live(new.position))
        return int(new.workload.survives(old.position, new.position))


class Kept:
    """What a growing and thinned out row of snapshots takes up, without summing it all up each time."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._guids: list[int] = []
        self._sums: list[int] = []

    def bytes(self, guids: Sequence[int]) -> int:
        """Of snapshots with these guids, oldest first."""
        start = _common(self._guids, guids)
        sums, sent = self._sums, self._truth.sent
        del sums[start:]
        total = sums[-1] if sums else 0
        for index in range(start, len(guids)):
            total += sent(guids[index - 1] if index else None, guids[index])
            sums.append(total)
        self._guids = list(guids)
        return total


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many are the same from the first on; by slices, which compare themselves faster than a loop does."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
