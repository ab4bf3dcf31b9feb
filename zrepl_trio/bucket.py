"""A token bucket: how many bytes may move now, and when more may.

Pure and exact: whole bytes, and nanoseconds of any steady clock, given by the caller.
"""

from __future__ import annotations

__all__ = ["Bucket"]

_NS = 1_000_000_000
_GRAINS_A_SECOND = 100
_LEAST_GRAIN = 1024
"""A frame has a header of 8 bytes, and waking for less than this is not worth it."""

_LATE_A_SECOND = 20


class Bucket:
    """Fills with `rate` bytes a second up to `capacity`, and is full at first; both at least 1.

    It hands out at least a `grain` at once: what passes in a hundredth of a second, or 1 KiB if
    that is more, but never more than a second's worth. It holds at least a grain and what passes in
    a twentieth of a second, so that a taker who wakes late by that loses nothing: over any time, no
    more than `burst` and what flowed in meanwhile is handed out.
    """

    def __init__(self, rate: int, capacity: int) -> None:
        self.rate = rate
        self.grain = max(rate // _GRAINS_A_SECOND, min(rate, _LEAST_GRAIN))
        self.burst = max(capacity, self.grain + -(-rate // _LATE_A_SECOND))
        self._level = self.burst * _NS  # in billionths of a byte, so that nothing is rounded
        self._as_of: int | None = None

    def wait_ns(self, wanted: int, now_ns: int) -> int:
        """How long until `take` gives something of `wanted` bytes: 0 is now."""
        self._fill(now_ns)
        lacking = min(wanted, self.grain) * _NS - self._level
        return max(-(-lacking // self.rate), 0)

    def take(self, wanted: int, now_ns: int) -> int:
        """Take what there is of `wanted` bytes, a second's worth at most; 0 while `wait_ns` is not
        over."""
        if self.wait_ns(wanted, now_ns):
            return 0
        taken = min(wanted, self._level // _NS, self.rate)
        self._level -= taken * _NS
        return taken

    def give_back(self, count: int) -> None:
        """`count` bytes that were taken did not move."""
        self._level = min(self._level + count * _NS, self.burst * _NS)

    def _fill(self, now_ns: int) -> None:
        elapsed = 0 if self._as_of is None else max(now_ns - self._as_of, 0)
        self._as_of = now_ns if self._as_of is None else max(now_ns, self._as_of)
        self._level = min(self._level + elapsed * self.rate, self.burst * _NS)
