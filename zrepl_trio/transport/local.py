"""The local transport: two jobs of one daemon, joined by a socket pair, with the same protocol on it.

Who connects says who it is, by its own config: both ends are the same admin's.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from zrepl_trio.bulk import enlarge
from zrepl_trio.errors import ConnectFailed, Refused
from zrepl_trio.transport.base import Connecter, Connection, Listener
from zrepl_trio.transport.clients import Handler, serve_client
from zrepl_trio.transport.fdconn import FdConnection
from zrepl_trio.transport.sockets import limit
from zrepl_trio.zfs.names import Identity

__all__ = ["LocalConnecter", "LocalListener", "LocalSwitch", "UnreachedListener"]


class LocalSwitch:
    """The listeners of one process by their names; listeners and connecters share it."""

    def __init__(self) -> None:
        self.open: dict[str, trio.MemorySendChannel[FdConnection]] = {}
        self._changed = trio.Event()

    def add(self, name: str, door: trio.MemorySendChannel[FdConnection]) -> None:
        """Clients that wait for `name` go on; Refused when it is taken."""
        if name in self.open:
            raise Refused(f"local listener {name!r} is served by another job already")
        self.open[name] = door
        self._changed.set()
        self._changed = trio.Event()

    async def door(self, name: str) -> trio.MemorySendChannel[FdConnection]:
        """Where to hand in a connection to `name`; waits until a job serves it."""
        while name not in self.open:
            await self._changed.wait()
        return self.open[name]


class LocalListener(Listener):
    """Serves the jobs of this daemon that connect to `name`."""

    def __init__(self, switch: LocalSwitch, name: str) -> None:
        self._switch = switch
        self._name = name

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        door, clients = trio.open_memory_channel[FdConnection](0)
        self._switch.add(self._name, door)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                async for connection in clients:
                    nursery.start_soon(serve_client, connection, handler)
        finally:
            del self._switch.open[self._name]
            clients.close()


class UnreachedListener(Listener):
    """Of a job whose local listener another one serves: nobody ever comes."""

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        del handler
        task_status.started()
        await trio.sleep_forever()


class LocalConnecter(Connecter):
    """Connects as `identity`; `dial_timeout_s` (0: no limit) is for the other job to take it."""

    def __init__(
        self, switch: LocalSwitch, name: str, identity: Identity, *, dial_timeout_s: float
    ) -> None:
        self._switch = switch
        self._name = name
        self._identity = identity
        self._dial_timeout_s = dial_timeout_s

    @property
    def peer(self) -> str:
        return f"local:{self._name}"

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        ours, theirs = self._pair()
        async with ours:
            try:
                with trio.fail_after(limit(self._dial_timeout_s)):
                    await (await self._switch.door(self._name)).send(theirs)
            except (trio.TooSlowError, trio.BrokenResourceError) as error:
                theirs.close()
                raise ConnectFailed(
                    f"no job of this daemon serves the local listener {self._name!r}"
                    f" (waited {self._dial_timeout_s:g} s); see `zrepl-trio status` for it"
                ) from error
            except BaseException:
                theirs.close()
                raise
            yield ours

    def _pair(self) -> tuple[FdConnection, FdConnection]:
        pair = socket.socketpair()
        for end in pair:
            enlarge(end.fileno())
        ours, theirs = (end.detach() for end in pair)
        return (
            FdConnection(ours, ours, client_identity=self._name),
            FdConnection(theirs, theirs, client_identity=self._identity),
        )
