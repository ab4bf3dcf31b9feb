"""The links of all hosts: who is behind which, and whether it is up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import cached_property

import structlog
import trio

from zrepl_trio.config.model import Config
from zrepl_trio.config.transport import Connect, Serve
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import ConnectFailed
from zrepl_trio.jobs.links import LinkFactory, OpenPeer
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.simulate.direct import DirectPeer, Said
from zrepl_trio.simulate.joining import Join
from zrepl_trio.simulate.outages import Windows
from zrepl_trio.simulate.wire import Passing, memory_connections
from zrepl_trio.transport.base import Connecter, Connection, Listener
from zrepl_trio.transport.clients import Handler, serve_client

__all__ = ["Door", "HostLinks", "Network"]


@dataclass(frozen=True)
class Door:
    """A passive job that serves, and the context in which it does."""

    endpoint_of: Callable[[str], Endpoint]
    handler: Handler
    clients: trio.Nursery
    context: Context

    @cached_property
    def said(self) -> Said:
        """What its lines in the log bear."""
        prefix = structlog.contextvars.STRUCTLOG_KEY_PREFIX
        return tuple(
            (variable, value)
            for variable, value in self.context.items()
            if variable.name.startswith(prefix)
        )

    def let_in(self, connection: Connection) -> None:
        """Serve it, as who serves: what it logs is not the client's."""
        spawn = self.clients.start_soon
        self.context.copy().run(spawn, serve_client, connection, self.handler)


class Network:
    """Joins the jobs of all hosts as `joins` say; `outages` maps two hosts to when they cannot reach
    each other. With `wire`, connections carry bytes, which the far end's own server takes apart;
    without, the far end's endpoint is called."""

    def __init__(
        self,
        joins: Iterable[Join],
        outages: dict[frozenset[str], Windows],
        *,
        wire: bool,
    ) -> None:
        self._joins = {(join.host, join.job): join for join in joins}
        self._outages = outages
        self.wire = wire
        self.doors: dict[tuple[str, str], Door] = {}

    def links_of(self, host: str) -> Callable[[Config], LinkFactory]:
        """What `World.links` is for that host."""
        return lambda config: HostLinks(self, host, config)

    def join(self, host: str, job: str) -> Join:
        return self._joins[host, job]

    def check(self, join: Join) -> None:
        """ConnectFailed when an outage keeps the two apart now."""
        windows = self._outages.get(join.hosts)
        if windows is not None and windows.until(trio.current_time()) is not None:
            raise ConnectFailed(f"the link from {join.host} to {join.peer} is down")

    def link(self, join: Join) -> Passing:
        """What one new connection goes over."""

        async def passing(count: int) -> int:
            self.check(join)
            return count

        return passing

    def door(self, join: Join) -> Door:
        """ConnectFailed when the far end does not serve."""
        self.check(join)
        door = self.doors.get((join.peer, join.peer_job))
        if door is None:
            raise ConnectFailed(f"no job {join.peer_job} serves on {join.peer}")
        return door


class HostLinks(LinkFactory):
    """One host's links, as its config has them."""

    def __init__(self, network: Network, host: str, config: Config) -> None:
        self._network = network
        self._host = host
        self._config = config

    def connecter(self, section: Connect) -> Connecter:
        name = next(
            job.name for job in self._config.jobs if getattr(job, "connect", None) is section
        )
        return _Connecter(self._network, self._network.join(self._host, name))

    def listener(self, section: Serve, endpoint_of: Callable[[str], Endpoint]) -> Listener:
        name = next(job.name for job in self._config.jobs if getattr(job, "serve", None) is section)
        return _Listener(self._network, (self._host, name), endpoint_of)

    @property
    def open_peer(self) -> OpenPeer:
        return open_remote if self._network.wire else _open_direct


class _Listener(Listener):
    def __init__(
        self, network: Network, place: tuple[str, str], endpoint_of: Callable[[str], Endpoint]
    ) -> None:
        self._network = network
        self._place = place
        self._endpoint_of = endpoint_of

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with trio.open_nursery() as nursery:
            self._network.doors[self._place] = Door(
                self._endpoint_of, handler, nursery, copy_context()
            )
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                del self._network.doors[self._place]


class _Connecter(Connecter):
    def __init__(self, network: Network, join: Join) -> None:
        self.network = network
        self.join = join

    @property
    def peer(self) -> str:
        return f"{self.join.peer}/{self.join.peer_job}"

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        join = self.join
        door = self.network.door(join)
        ours, theirs = memory_connections((self.peer, join.identity), self.network.link(join))
        door.let_in(theirs)
        try:
            yield ours
        finally:
            ours.close()


@asynccontextmanager
async def _open_direct(
    connecter: Connecter,
    *,
    connect_limit_s: float,
    work_limit_s: float,
    shutdowns: ShutdownTotals | None,
) -> AsyncIterator[Endpoint]:
    del connect_limit_s, work_limit_s, shutdowns
    assert isinstance(connecter, _Connecter)
    network, join = connecter.network, connecter.join
    await trio.lowlevel.checkpoint_if_cancelled()  # it takes no time

    def reach() -> tuple[Endpoint, Said]:
        door = network.door(join)
        return door.endpoint_of(join.identity), door.said

    yield DirectPeer(reach)
