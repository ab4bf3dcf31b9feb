"""Child processes with a list of those that run, for `status`, and word of each that has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime

import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.process import Child, Completed, Processes, Redirect, StuckChild, Usage

__all__ = ["ActiveChild", "TrackedProcesses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveChild:
    """A child that runs now."""

    argv: tuple[str, ...]
    started: datetime


@dataclass(slots=True)
class _Tracked:
    """Who knows the child's usage in the end: nobody if it did not start, or was cancelled."""

    child: Child | Completed | None = None


def _ignore(_argv: Sequence[str], _seconds: float, _usage: Usage | None) -> None:
    pass


class TrackedProcesses:
    """The `Processes` that it is given, with an eye on what they run.

    `ended` is told the arguments, the seconds and the usage of each child, in the context of who
    had it run.
    """

    def __init__(
        self,
        processes: Processes,
        clock: WallClock,
        *,
        ended: Callable[[Sequence[str], float, Usage | None], None] = _ignore,
    ) -> None:
        self._processes = processes
        self._clock = clock
        self._ended = ended
        self._active: dict[int, ActiveChild] = {}
        self._number = 0

    @property
    def active(self) -> tuple[ActiveChild, ...]:
        """What runs now, oldest first."""
        return tuple(self._active.values())

    @property
    def stuck(self) -> tuple[StuckChild, ...]:
        return self._processes.stuck

    @contextmanager
    def _tracked(self, argv: Sequence[str]) -> Iterator[_Tracked]:
        self._number += 1
        number = self._number
        self._active[number] = ActiveChild(argv=tuple(argv), started=self._clock.now())
        since_s = trio.current_time()
        tracked = _Tracked()
        try:
            yield tracked
        finally:
            del self._active[number]
            usage = None if tracked.child is None else tracked.child.usage
            self._ended(argv, trio.current_time() - since_s, usage)

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        stdin: bytes = b"",
    ) -> Completed:
        with self._tracked(argv) as tracked:
            tracked.child = done = await self._processes.run(
                argv, env=env, dataset=dataset, stdin=stdin
            )
            return done

    @asynccontextmanager
    async def open(
        self,
        argv: Sequence[str],
        *,
        stdin: Redirect = Redirect.NULL,
        stdout: Redirect = Redirect.NULL,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        grace_s: float = 1.0,
        kill_s: float = 5.0,
        pipe_size: int | None = None,
    ) -> AsyncIterator[Child]:
        opened = self._processes.open(
            argv,
            stdin=stdin,
            stdout=stdout,
            env=env,
            dataset=dataset,
            grace_s=grace_s,
            kill_s=kill_s,
            pipe_size=pipe_size,
        )
        with self._tracked(argv) as tracked:
            async with opened as child:
                tracked.child = child
                yield child
