"""Everything outside the process that a job may touch, handed to it as one value.

The daemon fills it with the real things, a simulator with its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from zrepl_trio.clock import WallClock
from zrepl_trio.process import Processes
from zrepl_trio.zfs.port import Zfs

__all__ = ["World"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The clock on the wall, this host's ZFS, and child processes (ssh).

    Monotonic time is trio's, which a test clock owns already.
    """

    clock: WallClock
    zfs: Zfs
    processes: Processes
