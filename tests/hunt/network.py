"""The links of a scenario, each of which is cut, down, silent or slow as told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
import trio

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.simulate.joining import Join
from zrepl_trio.simulate.network import Door, Network
from zrepl_trio.simulate.wire import Passing
from zrepl_trio.transport.base import Connection

__all__ = ["FaultyNetwork"]


@dataclass(slots=True)
class _Line:
    cut_at: int | None = None
    cut_after: int | None = None
    cut_within: int = 0
    down_until: float = 0.0
    silent_until: float = 0.0
    slow_until: float = 0.0
    rate: int = 1

    def passed(self, gone: int, count: int) -> int:
        """How many of so many bytes that one writes go over a connection over which `gone` have gone."""
        if self.cut_after is not None and count:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.cut_after = None
                return min(self.cut_within, count - 1)
        if self.cut_at is not None and gone + count > self.cut_at:
            at, self.cut_at = self.cut_at, None
            return max(at - gone, 0)
        return count


class FaultyNetwork(Network):
    """All by the wire. Each active job has its line."""

    def __init__(self, joins: Sequence[Join]) -> None:
        super().__init__(joins, {}, wire=True)
        self._lines = {join.job: _Line() for join in joins}

    def cut(self, job: str, *, at: int, writes: int = 0) -> None:
        """The next connection that gets so far breaks once so many bytes have gone over it; with `writes`, the one of
        the write that comes after so many does, so far into it."""
        line = self._lines[job]
        if writes:
            line.cut_after, line.cut_within = writes, at
        else:
            line.cut_at = at

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
            line.cut_at = line.cut_after = None

    def check(self, join: Join) -> None:
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
