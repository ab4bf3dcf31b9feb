"""When an event strikes: at one of a host's zfs commands, at an await of its daemon, or within a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from tests.hunt.scenario import STREAMS
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.port import ZfsReceive, ZfsSend

__all__ = ["AtStep", "Moments", "WatchedReceive", "WatchedSend"]

_PIPE = 65536


@dataclass(slots=True)
class _Waiting:
    strike: Callable[[], bool]
    calls: int
    opening: bool
    moved: int


class Moments:
    """What waits for its moment on a host. `strike` tells whether it did; what could not, when its moment had come,
    tries again at each further command."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def wait(
        self, strike: Callable[[], bool], *, calls: int = 0, opening: bool = False, moved: int = 0
    ) -> None:
        """After `calls` more commands; with `opening`, at the first after these that opens a stream; with `moved`, as
        soon as a stream has moved so many bytes."""
        self._waiting.append(_Waiting(strike, calls, opening, moved))

    def forget(self) -> None:
        """Nothing strikes any more."""
        self._waiting.clear()

    def called(self, call: str) -> None:
        """The host's daemon is about to run that command."""
        for each in list(self._waiting):
            if each.moved:
                continue
            each.calls -= 1
            if each.calls <= 0 and (call in STREAMS or not each.opening):
                self._try(each)

    def left(self, moved: int) -> int | None:
        """How many bytes more of a stream that has moved so many until something strikes; None: however many."""
        later = (each.moved - moved for each in self._waiting if each.moved > moved)
        return min(later, default=None)

    def moved(self, moved: int) -> None:
        """A stream has moved so many bytes."""
        for each in list(self._waiting):
            if each.moved == moved:
                self._try(each)

    def _try(self, each: _Waiting) -> None:
        if each.strike():
            self._waiting.remove(each)
        else:
            each.calls, each.opening, each.moved = 0, False, 0


class AtStep(trio.abc.Instrument):
    """Calls `strike` when the tasks to which `concerns` applies have gone on so many times, from any await to
    the next. It takes itself away."""

    def __init__(
        self,
        steps: int,
        strike: Callable[[], None],
        *,
        concerns: Callable[[trio.lowlevel.Task], bool],
    ) -> None:
        self._left = steps
        self._strike = strike
        self._concerns = concerns

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._concerns(task):
            self._left -= 1
            if self._left <= 0:
                trio.lowlevel.remove_instrument(self)
                self._strike()


class WatchedSend(trio.abc.ReceiveStream):
    """A `zfs send`, and its own `reader`. `failed` is told why it did."""

    def __init__(self, send: ZfsSend, moments: Moments, failed: Callable[[ZfsError], None]) -> None:
        self._send = send
        self._moments = moments
        self._failed = failed
        self._moved = 0

    @property
    def reader(self) -> trio.abc.ReceiveStream:
        return self

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        wanted = max_bytes or _PIPE
        left = self._moments.left(self._moved)
        data = bytes(await self._send.reader.receive_some(min(wanted, left or wanted)))
        if data:
            self._moved += len(data)
            self._moments.moved(self._moved)
        return data

    async def aclose(self) -> None:
        await self._send.reader.aclose()

    async def finish(self) -> None:
        try:
            await self._send.finish()
        except ZfsError as error:
            self._failed(error)
            raise


class WatchedReceive(trio.abc.SendStream):
    """A `zfs recv`, and its own `writer`. What strikes within the bytes of one write has those before it taken.
    `failed` is told why it did; `took_all`, called when it did not, may still have it fail."""

    def __init__(
        self,
        receive: ZfsReceive,
        moments: Moments,
        *,
        failed: Callable[[ZfsError], None],
        took_all: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._moments = moments
        self._failed = failed
        self._took_all = took_all
        self._moved = 0

    @property
    def writer(self) -> trio.abc.SendStream:
        return self

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while (left := self._moments.left(self._moved)) is not None and left <= len(rest):
            await self._take(rest[:left])
            rest = rest[left:]
            self._moments.moved(self._moved)
        await self._take(rest)

    async def _take(self, data: memoryview) -> None:
        await self._receive.writer.send_all(data)
        self._moved += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._receive.writer.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._receive.writer.aclose()

    async def finish(self) -> None:
        try:
            await self._receive.finish()
        except ZfsError as error:
            self._failed(error)
            raise
        self._took_all()
