"""The tcp transport: neither encrypted nor authenticated; a client is who its address says it is.

For networks that are protected by other means, such as WireGuard.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import trio

from zrepl_trio.config.addresses import HostPort
from zrepl_trio.transport.base import Connecter, Connection, Listener
from zrepl_trio.transport.clientmap import ClientMap
from zrepl_trio.transport.clients import ClientRefused, Door, Handler, take_clients
from zrepl_trio.transport.fdconn import FdConnection
from zrepl_trio.transport.sockets import dial, listening_at, peer_host
from zrepl_trio.zfs.names import Identity

__all__ = ["TcpConnecter", "TcpListener"]


class TcpConnecter(Connecter):
    """Dials `address`; `dial_timeout_s` 0 sets no limit."""

    def __init__(self, address: HostPort, *, dial_timeout_s: float) -> None:
        self._address = address
        self._dial_timeout_s = dial_timeout_s

    @property
    def peer(self) -> str:
        return str(self._address)

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        stream = await dial(self._address, self._dial_timeout_s)
        fd = stream.socket.detach()
        async with FdConnection(fd, fd, client_identity=self._address.host) as connection:
            yield connection


class TcpListener(Listener):
    """Listens at `listen` for the clients of the map; others are cut off without a byte."""

    def __init__(self, listen: HostPort, clients: ClientMap, *, freebind: bool = False) -> None:
        self._listen = listen
        self._clients = clients
        self._freebind = freebind

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with (
            listening_at(self._listen, freebind=self._freebind) as listeners,
            trio.open_nursery() as nursery,
        ):
            for listener in listeners:
                nursery.start_soon(take_clients, listener, _Mapped(self._clients), handler)
            task_status.started()


class _Mapped(Door):
    def __init__(self, clients: ClientMap) -> None:
        self._clients = clients

    def look(self, sock: trio.socket.SocketType) -> Mapping[str, object]:
        host = peer_host(sock)
        identity = self._clients.identity_of(host)
        if identity is None:
            raise ClientRefused(
                f"its address {host} is not among the job's `clients`; to let it in, add "
                f'`"{host}": IDENTITY` there'
            )
        return {"address": host, "identity": identity}

    async def admit(self, sock: trio.socket.SocketType) -> Connection | None:
        identity = self._clients.identity_of(peer_host(sock))
        assert identity is not None
        return _connection(sock, identity)


def _connection(sock: trio.socket.SocketType, identity: Identity) -> FdConnection:
    for level, option in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    ):
        with suppress(OSError):  # the client is gone, which the first read tells
            sock.setsockopt(level, option, 1)
    fd = sock.detach()
    return FdConnection(fd, fd, client_identity=identity)
