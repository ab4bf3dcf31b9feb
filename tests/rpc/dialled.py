"""What a client of ours dials: servers that say what a test wants, and calls that take their time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
import trio.testing

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.grpc_peers import PREFACE
from tests.rpc.pairs import (
    PairConnecter,
    receive_exactly,
    receive_rest,
)
from zrepl_trio.rpc import handshake
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.label import LABEL_BYTES
from zrepl_trio.transport.base import Connection


class Slow(FakeEndpoint):
    """Answers each ping after so many seconds as it says; counts those that were cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.cut_off = 0
        self.most_at_once = 0
        self._now = 0

    async def ping(self, message: str) -> str:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await trio.sleep(float(message))
        except trio.Cancelled:
            self.cut_off += 1
            raise
        finally:
            self._now -= 1
        return message


class Dial:
    """A connecter that plays a list: an error to raise, or what serves the connection."""

    peer = "there"

    def __init__(self, *plan: object) -> None:
        self._plan = list(plan)
        self.dialled = 0

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        step = self._plan.pop(0)
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if isinstance(step, Exception):
            raise step
        async with PairConnecter(step).connect() as connection:  # type: ignore[arg-type]
            yield connection


def saying(data: bytes, *, leave: bool = True) -> object:
    """A server that greets, says `data`, and leaves or falls silent."""

    async def serve(connection: Connection) -> None:
        await connection.send_all(handshake.render())
        await receive_exactly(connection, len(OUR_BANNER) + LABEL_BYTES + len(PREFACE))
        await connection.send_all(data)
        if leave:
            await connection.send_eof()
        await receive_rest(connection)
        await connection.aclose()

    return serve
