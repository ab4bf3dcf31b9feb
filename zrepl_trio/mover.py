"""Moving a stream between two file descriptors by splice(2), in short turns of a worker thread.

Python sees counts, never bytes. What a fast stream costs is its waits: a pipe of 1 MiB is full or
empty again within a millisecond or two, and beside processes that keep the caches busy one wait by
the event loop costs 100 to 180 µs of CPU, a nap of a thread 35. So while bytes flow, a thread moves
them for `TURN_S` at a time and naps on an empty or full fd; once nothing has moved for
`PATIENCE_S` the turn ends, and the task waits for the fd on the event loop. The thread never outlives
the call: a cancelled task ends with its turn, nothing half done.

Traps that shaped this file:
- Waiting until a full pipe is writable wakes a process for each page that becomes free. A nap first
  lets the other side work in bulk.
- FIONREAD = 0 on a readable pipe is not EOF; only a read, or splice, of 0 bytes is.
- A pipe holds a bounded number of *pieces*, not only of bytes: many small writes fill it before
  its size is reached, so "wait until N bytes are there" must give up when nothing more comes.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
import struct
import termios
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import TypeVar

import trio

from zrepl_trio.pace import Pace

__all__ = [
    "TURN_BYTES",
    "TURN_S",
    "Mover",
    "Stop",
    "capacity",
    "in_thread",
    "move",
    "next_nap",
    "pending_bytes",
]

TURN_S = 0.05
"""How long a thread moves before its task hears of it: the most that a cancel waits for."""

PATIENCE_S = 0.01
"""How long a thread naps without a byte moving before it hands the waiting to the event loop."""

NAP_S = 0.001
"""How long a mover naps on a busy stream for each MiB of the smallest buffer on its way: at 400 MiB/s
two fifths of it pass meanwhile."""

SHORTEST_NAP_S = 0.0001
LONGEST_NAP_S = 0.005
"""So that a slow stream is not late by more than that."""

_MIB = 2**20
_WINDOW_NAPS = 16
_TOO_MUCH, _TOO_LITTLE, _SLOW = 0.65, 0.45, 0.05
_SHORTER, _LONGER = 0.7, 1.3

_YIELDS = 3
_YIELD_BELOW_S = 0.0005
"""Between two fast programs, whose naps are short, letting the other run is often enough."""

_THREADS = 64
"""How many streams move at one instant; others wait for a turn to end."""

_SPLICE_FLAGS = getattr(os, "SPLICE_F_NONBLOCK", 2) | getattr(os, "SPLICE_F_MOVE", 1)

_T = TypeVar("_T")
_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("movers")


class Stop(Enum):
    """Why a mover stopped before its count was reached."""

    SOURCE = "the source has nothing just now"
    TARGET = "the target takes nothing just now"
    END = "the source has ended"


async def in_thread(turn: Callable[[], _T]) -> _T:
    """Run one turn of a mover in a worker thread; a cancel is delivered after it, at the next await."""
    try:
        limiter = _limiter.get()
    except LookupError:
        _limiter.set(limiter := trio.CapacityLimiter(_THREADS))
    return await trio.to_thread.run_sync(turn, limiter=limiter)


def capacity(fd: int) -> int:
    """About how many bytes fit between the two ends of a pipe or local socket."""
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            # the kernel doubles the wish to leave room for its bookkeeping
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        try:
            return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        except OSError:
            return _DEFAULT_PIPE_BYTES
    return _DEFAULT_PIPE_BYTES


_DEFAULT_PIPE_BYTES = 65536  # pipe(7)


def pending_bytes(fd: int) -> int:
    """How many bytes can be read at once (FIONREAD); 0 says nothing about EOF."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])


def next_nap(nap_s: float, share: float, buffer: int) -> float:
    """How long to nap from now on, in seconds, when after naps of `nap_s` this share of the buffer
    (of so many bytes) passed on average.

    Longer naps let more pass for one wake-up; so long that the buffer is often full or empty after
    one, they cap the stream. What passes tells that, not the rate: it is capped as well.
    """
    if share > _TOO_MUCH:
        return max(nap_s * _SHORTER, SHORTEST_NAP_S)
    if share > _TOO_LITTLE:
        return nap_s
    # a stream that passes next to nothing in a millisecond may be later by a few of them
    busy = min(NAP_S * max(1, buffer / _MIB), LONGEST_NAP_S)
    return max(nap_s, min(nap_s * _LONGER, busy if share > _SLOW else LONGEST_NAP_S))


class Mover:
    """One direction between two non-blocking fds that stay open meanwhile; it closes neither.

    Its methods block, by naps of at most PATIENCE_S without progress: they are for `in_thread`. Each
    gives what it did, and the Stop when that is less than was asked for. They raise
    BrokenResourceError when the target's reader is gone, and OSError for all else that the fds give.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self._buffer = min(capacity(source), capacity(target))
        self._nap_s = NAP_S
        self._naps = self._passed = 0
        self._stalls = 0
        self._napped_s = 0.0
        self._hang_up = select.poll()
        self._hang_up.register(source, 0)
        self._turn_until = 0.0

    def begin_turn(self) -> None:
        """Call at the start of each turn."""
        self._turn_until = time.monotonic() + TURN_S
        self._napped_s = 0.0

    @property
    def turn_is_over(self) -> bool:
        """Whether the turn has had its TURN_S."""
        return time.monotonic() >= self._turn_until

    def splice(self, count: int) -> tuple[int, Stop | None]:
        """Move `count` bytes as they come and are taken."""
        left = count
        while left:
            try:
                moved = os.splice(self.source, self.target, left, flags=_SPLICE_FLAGS)
                if moved == left:
                    self._progress(moved)
                    break
                if moved == 0:
                    return count - left, Stop.END
                left -= moved
                self._progress(moved)
                # less than asked for: one of the two has no more, so to try at once is no use
            except BlockingIOError:
                pass
            except BrokenPipeError as error:
                raise trio.BrokenResourceError(str(error)) from error
            if not self.nap():
                # EAGAIN does not tell which side it came from
                stop = Stop.TARGET if pending_bytes(self.source) else Stop.SOURCE
                return count - left, stop
        return count, None

    def read(self, count: int) -> tuple[bytes, Stop | None]:
        """At least one byte of the source, `count` at most."""
        while True:
            try:
                got = os.read(self.source, count)
            except BlockingIOError:
                if self.nap():
                    continue
                return b"", Stop.SOURCE
            self._progress(len(got))
            return got, None if got else Stop.END

    def write(self, data: bytes) -> tuple[int, Stop | None]:
        """Write to the target."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.target, view) :]
            except BlockingIOError:
                if self.nap():
                    continue
                return len(data) - len(view), Stop.TARGET
            except BrokenPipeError as error:
                raise trio.BrokenResourceError(str(error)) from error
        return len(data), None

    def gather(self, wanted: int) -> int:
        """Nap until the source holds `wanted` bytes or stops filling up; how many it holds.

        `wanted` should be well below the pipe's capacity. 0 after patience, or at the end.
        """
        held = pending_bytes(self.source)
        while held < wanted:
            if not held and self._hang_up.poll(0):
                break  # nothing will come any more, or has come in this instant: a read tells
            before = held
            if not self.nap():
                break
            held = pending_bytes(self.source)
            if held == before and held and self._napped_s:
                break
        return held

    def nap(self) -> bool:
        """Nap once, or let the other side run; False, without either, when patience is over."""
        if self._napped_s >= PATIENCE_S:
            return False
        self._stalls += 1
        if self._nap_s <= _YIELD_BELOW_S and self._stalls <= _YIELDS:
            os.sched_yield()
            return True
        if self._naps == _WINDOW_NAPS:
            self._nap_s = next_nap(
                self._nap_s, self._passed / self._naps / self._buffer, self._buffer
            )
            self._naps = self._passed = 0
        self._naps += 1
        self._napped_s += self._nap_s
        time.sleep(self._nap_s)
        return True

    def _progress(self, count: int) -> None:
        self._passed += count
        self._stalls = 0
        self._napped_s = 0.0


_PIECE_BYTES = 4 * 1024 * 1024

TURN_BYTES = 2**30
"""What a turn may move if no limit says otherwise: more than it can in its time."""


async def move(
    source: int,
    target: int,
    on_progress: Callable[[int], None],
    pace: Pace | None = None,
    *,
    readable: Callable[[], Awaitable[None]] | None = None,
    writable: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Splice all of `source` into `target` up to EOF, at its pace; the count of bytes.

    Both fds must be non-blocking and stay open; neither is closed. `on_progress` gets the count of
    each turn. Raises BrokenResourceError when the target's reader is gone, OSError for what the
    source's read gives. When cancelled, a part may have been moved. `readable` and `writable` wait
    for either side in place of plain waits for the fds, and may raise what they like.
    """
    mover = Mover(source, target)
    pace = pace or Pace()
    readable = readable or partial(trio.lowlevel.wait_readable, source)
    writable = writable or partial(trio.lowlevel.wait_writable, target)

    def turn(budget: int) -> tuple[int, Stop | None]:
        mover.begin_turn()
        count = 0
        stop = None
        while stop is None and count < budget and not mover.turn_is_over:
            moved, stop = mover.splice(min(_PIECE_BYTES, budget - count))
            count += moved
        return count, stop

    total = 0
    while True:
        budget = await pace.take(TURN_BYTES)
        count, stop = await in_thread(partial(turn, budget))
        pace.give_back(budget - count)
        total += count
        if count:
            on_progress(count)
        match stop:
            case Stop.SOURCE:
                await readable()
            case Stop.TARGET:
                await writable()
            case Stop.END:
                return total
            case None:
                pass
