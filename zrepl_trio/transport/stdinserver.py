"""The serving side of ssh+stdinserver: one UNIX socket per client identity, fds come in over it.

sshd starts `zrepl-trio stdinserver ID` (the proxy) for every connection of the client; it passes
its stdin and stdout to the socket named ID and waits for our feedback byte (wire reference 1.2
to 1.4). The identity is the socket's name; nothing that the peer says is consulted.

Each step of a client's greeting has a deadline of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress

import trio

from zrepl_trio.bulk import enlarge
from zrepl_trio.errors import Refused
from zrepl_trio.transport.banner import HELO, MESSAGE_BYTES
from zrepl_trio.transport.base import Connection, Listener
from zrepl_trio.transport.clients import (
    PENDING_LIMIT,
    ClientRefused,
    Door,
    Handler,
    limited,
    take_clients,
)
from zrepl_trio.transport.fdconn import FdConnection
from zrepl_trio.transport.fdpass import BadFds, receive_fds
from zrepl_trio.transport.peercred import may_talk_to_us, peer_credentials
from zrepl_trio.transport.privatedir import ensure_private_directory
from zrepl_trio.transport.unixsocket import listening
from zrepl_trio.zfs.names import Identity

__all__ = ["HANDSHAKE_STEP_S", "StdinserverListener"]

HANDSHAKE_STEP_S = 10.0
"""How long each step of the greeting may take; as long as the client's own `dial_timeout`."""

_BACKLOG = 1024
_FEEDBACK = b"\0"


class StdinserverListener(Listener):
    """Listens at `sockdir`/ID for each of the identities of one job.

    Holding N connections takes 3 N open files: the daemon is to raise its soft RLIMIT_NOFILE.
    """

    def __init__(
        self,
        sockdir: str,
        identities: Iterable[Identity],
        *,
        handshake_step_s: float = HANDSHAKE_STEP_S,
        pending_limit: int = PENDING_LIMIT,
    ) -> None:
        self._sockdir = sockdir
        self._identities = tuple(dict.fromkeys(identities))
        self._step_s = handshake_step_s
        self._pending_limit = pending_limit

    async def serve(
        self,
        handler: Handler,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        if not self._identities:
            raise Refused("stdinserver: there is no client identity to listen for")
        ensure_private_directory(self._sockdir)
        with ExitStack() as sockets:
            listeners = [
                (identity, sockets.enter_context(listening(self._path(identity), backlog=_BACKLOG)))
                for identity in self._identities
            ]
            async with trio.open_nursery() as nursery:
                for identity, listener in listeners:
                    nursery.start_soon(self._take, listener, identity, handler)
                task_status.started()

    def _path(self, identity: Identity) -> str:
        return os.path.join(self._sockdir, identity)

    async def _take(
        self, listener: trio.socket.SocketType, identity: Identity, handler: Handler
    ) -> None:
        door = _Proxies(identity, self._step_s)
        limit = self._pending_limit
        await take_clients(listener, door, handler, pending_limit=limit, identity=identity)


class _Proxies(Door):
    """Lets in the forced commands of one identity: their fds become the connection."""

    def __init__(self, identity: Identity, step_s: float) -> None:
        self._identity = identity
        self._step_s = step_s

    def look(self, sock: trio.socket.SocketType) -> Mapping[str, object]:
        credentials = peer_credentials(sock)
        if not may_talk_to_us(credentials):
            raise ClientRefused(f"uid {credentials.uid} is neither root nor our own user")
        return {"pid": credentials.pid}

    async def admit(self, sock: trio.socket.SocketType) -> Connection | None:
        with limited("pass its fds", self._step_s):
            try:
                fds = await receive_fds(sock)
            except BadFds as error:
                raise ClientRefused(str(error)) from None
        if fds is None:
            return None
        raw = socket.socket(fileno=sock.detach())
        connection = FdConnection(
            *fds, client_identity=self._identity, on_close=lambda: _give_feedback(raw)
        )
        try:
            with limited("take our greeting", self._step_s):
                await connection.send_all(HELO)
            with limited("answer our greeting", self._step_s):
                await _read_begin(connection)
            if connection.write_fd is not None:
                enlarge(connection.write_fd)
        except BaseException:
            connection.close()
            raise
        return connection


async def _read_begin(connection: FdConnection) -> None:
    """Read the client's answer, whatever it says: zrepl doesn't look at it either."""
    left = MESSAGE_BYTES
    while left:
        chunk = await connection.receive_some(left)
        if not chunk:
            raise ClientRefused("it left before it answered our greeting")
        left -= len(chunk)


def _give_feedback(sock: socket.socket) -> None:
    """Tell the proxy that the connection was closed in an orderly way: it exits with 0."""
    with sock, suppress(OSError):  # the proxy is gone
        sock.send(_FEEDBACK, socket.MSG_DONTWAIT)
