"""Lines on their way to one outlet: bounded, so that an outlet that takes none costs no more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["QUEUE_BYTES", "LineQueue"]

QUEUE_BYTES = 1024 * 1024
"""Some thousand lines: what led to a trouble is still there when the outlet works again."""

_OVERHEAD_BYTES = 64
"""Of a bytes object, so that a crowd of tiny lines is bounded as well."""


class LineQueue:
    """First in, first out, for any thread; when full the oldest lines go, and are counted.

    `wake` is called, perhaps from another thread, when there is something to take or the end.
    """

    def __init__(self, wake: Callable[[], object], *, limit_bytes: int = QUEUE_BYTES) -> None:
        self._wake = wake
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closed

    def put(self, line: bytes) -> bool:
        """Append `line`; False when older ones had to go for it. A closed queue drops it."""
        with self._lock:
            if self._closed:
                return True
            self._lines.append(line)
            self._bytes += len(line) + _OVERHEAD_BYTES
            before = self._lost
            while self._bytes > self._limit and len(self._lines) > 1:
                self._bytes -= len(self._lines.popleft()) + _OVERHEAD_BYTES
                self._lost += 1
            kept = self._lost == before
        self._wake()
        return kept

    def take(self, at_most_bytes: int) -> tuple[int, list[bytes]]:
        """How many lines were lost since the last call, all older than the ones given with it: at
        least one if there is any, else as many as fit into that size."""
        with self._lock:
            lost, self._lost = self._lost, 0
            taken: list[bytes] = []
            size = 0
            while self._lines and (not taken or size + len(self._lines[0]) <= at_most_bytes):
                taken.append(self._lines.popleft())
                size += len(taken[-1])
            self._bytes -= size + _OVERHEAD_BYTES * len(taken)
        return lost, taken

    def close(self) -> None:
        """Take no more; what is there can still be taken."""
        with self._lock:
            self._closed = True
        self._wake()
