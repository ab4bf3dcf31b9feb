"""The links of a scenario, each of which is cut, down, silent or slow as told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog
import trio

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.simulate.joining import Join
from zrepl_trio.simulate.network import Door, Network
from zrepl_trio.simulate.wire import Passing
from zrepl_trio.transport.base import Connection

__all__ = ["FaultyNetwork"]


@dataclass(slots=True)
class _Later:
    left: int
    begin: Callable[[], None]


@dataclass(slots=True)
class _Cut:
    at: int
    writes: int
    struck: Callable[[], None]

    def passed(self, gone: int, count: int) -> int:
        """How many of so many bytes go over a connection over which `gone` have gone."""
        if self.writes:
            self.writes -= 1
            return count if self.writes else min(self.at, count - 1)
        return min(count, max(self.at - gone, 0))


@dataclass(slots=True)
class _Line:
    cuts: list[_Cut] = field(default_factory=list)
    down_until: float = 0.0
    silent_until: float = 0.0
    slow_until: float = 0.0
    rate: int = 1
    waiting: list[_Later] = field(default_factory=list)

    def used(self, count: int) -> None:
        """By so many bytes: what waited for them begins."""
        for each in list(self.waiting):
            each.left -= count
            if each.left <= 0:
                self.waiting.remove(each)
                each.begin()

    def passed(self, gone: int, count: int) -> int:
        """How many of so many bytes that one writes go over a connection over which `gone` have gone."""
        for each in self.cuts if count else ():
            passed = each.passed(gone, count)
            if passed < count:
                self.cuts.remove(each)
                each.struck()
                return passed
        return count


class FaultyNetwork(Network):
    """All by the wire. Each active job has its line."""

    def __init__(self, joins: Sequence[Join]) -> None:
        super().__init__(joins, {}, wire=True)
        self._lines = {join.job: _Line() for join in joins}

    def wait(self, job: str, begin: Callable[[], None], *, moved: int) -> None:
        """Call `begin` at the link's next use, or once so many bytes more have gone over it."""
        self._lines[job].waiting.append(_Later(moved, begin))

    def cut(self, job: str, struck: Callable[[], None], *, at: int, writes: int = 0) -> None:
        """The next connection that gets so far breaks once so many bytes have gone over it; with `writes`, the one of
        that write does, the first being the next, so far into it."""
        self._lines[job].cuts.append(_Cut(at, writes, struck))

    def down(self, job: str, *, seconds: float) -> None:
        self._lines[job].down_until = trio.current_time() + seconds

    def silence(self, job: str, *, seconds: float) -> None:
        self._lines[job].silent_until = trio.current_time() + seconds

    def slow(self, job: str, *, seconds: float, rate: int) -> None:
        line = self._lines[job]
        line.slow_until, line.rate = trio.current_time() + seconds, rate

    def mend(self) -> None:
        """No connection is to be cut any more."""
        for line in self._lines.values():
            line.cuts.clear()
            line.waiting.clear()

    def check(self, join: Join) -> None:
        self._lines[join.job].used(0)
        if trio.current_time() < self._lines[join.job].down_until:
            raise ConnectFailed(f"the link from {join.host} to {join.peer} is down")

    def door(self, join: Join) -> Door:
        door = super().door(join)

        async def handler(connection: Connection) -> None:
            structlog.contextvars.bind_contextvars(on_behalf_of=join.host)
            await door.handler(connection)

        return replace(door, handler=handler)

    def link(self, join: Join) -> Passing:
        line = self._lines[join.job]
        gone = 0
        cut = False

        async def passing(count: int) -> int:
            nonlocal gone, cut
            line.used(count)
            self.check(join)
            if trio.current_time() < line.silent_until:
                await trio.sleep_until(line.silent_until)
            if trio.current_time() < line.slow_until:
                await trio.sleep(count / line.rate)
            if cut:
                raise ConnectFailed("the link was cut")
            passed = line.passed(gone, count)
            gone += passed
            cut = passed < count
            return passed

        return passing
