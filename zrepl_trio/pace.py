"""Limits on bandwidth, as those who move a stream's bytes keep them.

A stream's bytes are taken from the bucket first and moved then, since an announced frame cannot
pause. The wait for them is on the event loop, with nothing held: heartbeats go on meanwhile.
"""

from __future__ import annotations

import trio

from zrepl_trio.bucket import Bucket

__all__ = ["Pace", "Throttle"]

_NS = 1_000_000_000
_SHORTEST_WAIT_S = 1e-6
"""Less could vanish in a clock's rounding."""


class Throttle:
    """A limit that all streams of a job keep together: `rate` bytes a second, after bursts of up to
    `capacity` bytes, each at least 1 (see `Bucket`). Streams are served in turn.
    """

    def __init__(self, rate: int, capacity: int) -> None:
        self._bucket = Bucket(rate, capacity)
        self._turn = trio.StrictFIFOLock()

    async def take(self, wanted: int) -> int:
        """Wait until some of `wanted` (more than 0) bytes may move; how many, 1 at least and a
        second's worth at most. They count as moved unless given back."""
        async with self._turn:
            while not (taken := self._bucket.take(wanted, _now_ns())):
                wait_s = self._bucket.wait_ns(wanted, _now_ns()) / _NS
                await trio.sleep(max(wait_s, _SHORTEST_WAIT_S))
            return taken

    def give_back(self, count: int) -> None:
        """`count` of the bytes taken did not move."""
        self._bucket.give_back(count)


def _now_ns() -> int:
    return int(trio.current_time() * _NS)


class Pace:
    """What one stream obeys: no limit, our sender's, our receiver's, or both.

    Whoever moves its bytes takes them here before, and gives back what he did not move.
    """

    def __init__(self, throttle: Throttle | None = None) -> None:
        self._throttles: list[Throttle] = []
        self.keep_to(throttle)

    def keep_to(self, throttle: Throttle | None) -> None:
        """Obey this limit too, if it is one; said before the stream is moved."""
        if throttle is not None:
            self._throttles.append(throttle)

    async def take(self, wanted: int) -> int:
        """Wait until some of `wanted` (more than 0) bytes may move; how many. Without a limit all,
        at once and without a checkpoint."""
        granted = wanted
        for index, throttle in enumerate(self._throttles):
            taken = await throttle.take(granted)
            for earlier in self._throttles[:index]:
                earlier.give_back(granted - taken)
            granted = taken
        return granted

    def give_back(self, count: int) -> None:
        """`count` of the bytes taken did not move."""
        for throttle in self._throttles:
            throttle.give_back(count)
