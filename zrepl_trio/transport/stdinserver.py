"""The serving side of ssh+stdinserver: one UNIX socket per client identity, fds come in over it.

sshd starts `zrepl-trio stdinserver ID` (the proxy) for every connection of the client; it passes
its stdin and stdout to the socket named ID and waits for our feedback byte (wire reference 1.2
to 1.4). The identity is the socket's name; nothing that the peer says is consulted.

Every client has a task and deadlines of its own from the first moment on: one that sends nothing
delays nobody, and too many such are dropped, the oldest first.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import structlog
import trio

from zrepl_trio.bulk import enlarge
from zrepl_trio.errors import Refused, ZreplError, leaves
from zrepl_trio.transport.banner import HELO, MESSAGE_BYTES
from zrepl_trio.transport.base import Connection, Listener
from zrepl_trio.transport.fdconn import FdConnection
from zrepl_trio.transport.fdpass import BadFds, receive_fds
from zrepl_trio.transport.peercred import may_talk_to_us, peer_credentials
from zrepl_trio.transport.privatedir import ensure_private_directory
from zrepl_trio.transport.unixsocket import accept_some, listening
from zrepl_trio.zfs.names import Identity

__all__ = ["HANDSHAKE_STEP_S", "PENDING_LIMIT", "StdinserverListener"]

log = structlog.get_logger()

Handler = Callable[[Connection], Awaitable[None]]

HANDSHAKE_STEP_S = 10.0
"""How long each step of the greeting may take; as long as the client's own `dial_timeout`."""

PENDING_LIMIT = 128
"""Clients of one identity that may be in their greeting at once."""

_BACKLOG = 1024
_FEEDBACK = b"\0"

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_ACCEPT_PAUSE_S = 0.1


class _Refused(Exception):
    """This client's greeting came to nothing; the text is for the log."""


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
                    nursery.start_soon(self._accept, listener, identity, handler, nursery)
                task_status.started()

    def _path(self, identity: Identity) -> str:
        return os.path.join(self._sockdir, identity)

    async def _accept(
        self,
        listener: trio.socket.SocketType,
        identity: Identity,
        handler: Handler,
        clients: trio.Nursery,
    ) -> None:
        pending: dict[trio.CancelScope, int] = {}
        starved = False
        while True:
            try:
                arrived = await accept_some(listener)
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    log.warning("accept failed", identity=identity, error=str(error))
                elif not starved:
                    starved = True
                    log.warning(
                        "can't accept clients for now: raise the limit (ulimit -n, LimitNOFILE=)",
                        identity=identity,
                        error=error.strerror,
                    )
                await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            starved = False
            for sock in arrived:
                clients.start_soon(self._client, sock, identity, handler, pending)

    async def _client(
        self,
        sock: trio.socket.SocketType,
        identity: Identity,
        handler: Handler,
        pending: dict[trio.CancelScope, int],
    ) -> None:
        """One client from accept to close; whatever fails ends only this client."""
        connection: FdConnection | None = None
        pid = 0
        with sock, trio.CancelScope() as scope:
            try:
                pid = _checked_peer(sock)
                pending[scope] = pid
                self._drop_beyond_limit(pending, identity)
                connection = await self._greeted(sock, identity)
            except (_Refused, BadFds, OSError, trio.BrokenResourceError) as error:
                log.warning("client refused", identity=identity, pid=pid, reason=str(error))
            except Exception:  # a bug of ours is to cost this client, and not those that are served
                log.exception("client refused by a bug", identity=identity, pid=pid)
            finally:
                pending.pop(scope, None)
        if connection is None:
            return
        with closing(connection):
            try:
                await handler(connection)
            except* Exception as group:  # noqa: BLE001 - one client must not end the others
                for failure in leaves(group):
                    _log_failure(failure, identity)

    def _drop_beyond_limit(self, pending: dict[trio.CancelScope, int], identity: Identity) -> None:
        while len(pending) > self._pending_limit:
            oldest = next(iter(pending))
            log.warning(
                "too many silent clients, the oldest is dropped",
                identity=identity,
                pid=pending.pop(oldest),
                limit=self._pending_limit,
            )
            oldest.cancel()

    async def _greeted(
        self, sock: trio.socket.SocketType, identity: Identity
    ) -> FdConnection | None:
        """The client's stream, past BEGIN; None when it left without a word."""
        with self._limited("pass its fds"):
            fds = await receive_fds(sock)
        if fds is None:
            return None
        raw = socket.socket(fileno=sock.detach())
        connection = FdConnection(
            *fds, client_identity=identity, on_close=lambda: _give_feedback(raw)
        )
        try:
            with self._limited("take our greeting"):
                await connection.send_all(HELO)
            with self._limited("answer our greeting"):
                await _read_begin(connection)
            if connection.write_fd is not None:
                enlarge(connection.write_fd)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _limited(self, step: str) -> Iterator[None]:
        try:
            with trio.fail_after(self._step_s):
                yield
        except trio.TooSlowError:
            raise _Refused(f"it did not {step} within {self._step_s:g} s") from None


def _checked_peer(sock: trio.socket.SocketType) -> int:
    """The pid of a peer that may talk to us."""
    credentials = peer_credentials(sock)
    if not may_talk_to_us(credentials):
        raise _Refused(f"uid {credentials.uid} is neither root nor our own user")
    return credentials.pid


async def _read_begin(connection: FdConnection) -> None:
    """Read the client's answer, whatever it says: zrepl doesn't look at it either."""
    left = MESSAGE_BYTES
    while left:
        chunk = await connection.receive_some(left)
        if not chunk:
            raise _Refused("it left before it answered our greeting")
        left -= len(chunk)


def _give_feedback(sock: socket.socket) -> None:
    """Tell the proxy that the connection was closed in an orderly way: it exits with 0."""
    with sock, suppress(OSError):  # the proxy is gone
        sock.send(_FEEDBACK, socket.MSG_DONTWAIT)


def _log_failure(error: BaseException, identity: Identity) -> None:
    if isinstance(error, (ZreplError, OSError, trio.BrokenResourceError)):
        log.warning("connection failed", identity=identity, error=str(error))
    else:
        log.error("connection failed by a bug", identity=identity, exc_info=error)
