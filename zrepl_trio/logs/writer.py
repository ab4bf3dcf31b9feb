"""Lines to stdout, from a thread of its own.

Whoever reads our stdout may stop reading. To make the fd non-blocking would do so for every
program that shares it, a shell's terminal say; a thread may block. It also gets out what was
logged just before the event loop hangs, which is what one wants to read then.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

import trio

from zrepl_trio.logs.queue import LineQueue

__all__ = ["RETRY_S", "ThreadWriter"]

RETRY_S = 10.0
"""Seconds between attempts on an fd that fails, as the other outlets' default."""

_AT_ONCE_BYTES = 64 * 1024


class ThreadWriter:
    """Writes lines to a copy of `fd` of its own until closed and drained.

    `trouble` is told, in the thread, why a write failed; `lost` gives the line in the place of
    lost ones.
    """

    def __init__(
        self,
        fd: int,
        *,
        trouble: Callable[[str], None],
        lost: Callable[[int], bytes],
        retry_s: float = RETRY_S,
    ) -> None:
        self._fd = os.dup(fd)
        self._trouble = trouble
        self._lost = lost
        self._retry_s = retry_s
        self._ready = threading.Event()
        self._closing = threading.Event()
        self.queue = LineQueue(self._ready.set)
        # a daemon thread: one that blocks in write(2) must not keep the process
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more lines; the thread ends with the last one, or when one fails after this."""
        self._closing.set()
        self.queue.close()

    async def drained(self, within_s: float) -> None:
        """Wait for the thread's end, for so long; it ends by itself later if its write does."""
        await trio.to_thread.run_sync(self._thread.join, within_s)

    def _run(self) -> None:
        try:
            while True:
                self._ready.wait()
                self._ready.clear()
                while True:
                    lost, lines = self.queue.take(_AT_ONCE_BYTES)
                    if not lines:
                        break
                    if lost:
                        lines.insert(0, self._lost(lost))
                    if not self._write(b"".join(lines)):
                        return
                if self.queue.closed:
                    return
        finally:
            os.close(self._fd)

    def _write(self, data: bytes) -> bool:
        """Whether all of it was written; not, if that failed and we are to end."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another program made it so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                self._trouble(error.strerror or str(error))
                if self._closing.is_set():
                    return False
                self._closing.wait(self._retry_s)
        return True
