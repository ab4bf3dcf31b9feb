"""Everything outside the process that a job may touch, handed to it as one value.

The daemon fills it with the real things, a simulator with its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zrepl_trio.clock import WallClock
from zrepl_trio.config.environment import DEFAULT_TUNING, Tuning
from zrepl_trio.config.model import Config
from zrepl_trio.jobs.links import LinkFactory, Links
from zrepl_trio.jobs.watch import UNWATCHED, Watch
from zrepl_trio.process import Processes
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.zfs.port import Zfs

__all__ = ["World"]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The clock on the wall and this host's ZFS, which has the child processes.

    Monotonic time is trio's, which a test clock owns already. `links` makes of a config what leads
    its jobs to their peers. `watch` is told what the jobs do, `shutdowns` counts how their
    data connections end. `processes` run what is not zfs or ssh; a world without has no hooks.
    `tuning` is what the environment sets for all jobs.
    Without `locks` nothing keeps another process from running the same jobs: where there is none.
    """

    clock: WallClock
    zfs: Zfs
    watch: Watch = UNWATCHED
    shutdowns: ShutdownTotals = field(default_factory=ShutdownTotals)
    processes: Processes | None = None
    links: Callable[[Config], LinkFactory] = Links
    tuning: Tuning = DEFAULT_TUNING
    locks: bool = True
