"""Taking in the clients of a listening socket, for every transport that has one.

Every client has a task of its own from the first moment on: one that sends nothing delays nobody,
too many such are dropped, the oldest first, and whatever one of them does ends with it. What a
transport adds is its `Door`: who may come in, and by which greeting.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Protocol

import structlog
import trio

from zrepl_trio.errors import ZreplError, leaves
from zrepl_trio.transport.base import Connection

__all__ = [
    "PENDING_LIMIT",
    "ClientRefused",
    "Door",
    "Handler",
    "accept_some",
    "limited",
    "serve_client",
    "take_clients",
]

log = structlog.get_logger()

Handler = Callable[[Connection], Awaitable[None]]

PENDING_LIMIT = 128
"""Clients of one listening socket that may be in their greeting at once."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_ACCEPT_PAUSE_S = 0.1
_AT_ONCE = 64


class ClientRefused(Exception):
    """This client's greeting came to nothing; the text is for the log."""


class Door(Protocol):
    """How a transport lets clients in."""

    def look(self, sock: trio.socket.SocketType) -> Mapping[str, object]:
        """What the log says of this client; ClientRefused when it may not even begin to speak."""

    async def admit(self, sock: trio.socket.SocketType) -> Connection | None:
        """Its connection once its greeting is over, which has detached the socket and owns what
        came of it; None when it left without a word. ClientRefused, OSError and
        BrokenResourceError end this client, with one line in the log."""


async def take_clients(
    listener: trio.socket.SocketType,
    door: Door,
    handler: Handler,
    *,
    pending_limit: int = PENDING_LIMIT,
    **about: object,
) -> None:
    """Serve the clients of `listener` until cancelled; closes their connections, not the listener.

    `about` goes into every line of the log.
    """
    crowd = _Crowd(door, handler, pending_limit, about)
    starved = False
    async with trio.open_nursery() as clients:
        while True:
            try:
                arrived = await accept_some(listener)
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    log.warning("accept failed", **about, error=str(error))
                elif not starved:
                    starved = True
                    log.warning(
                        "can't accept clients for now: raise the limit (ulimit -n, LimitNOFILE=)",
                        **about,
                        error=error.strerror,
                    )
                await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            starved = False
            for sock in arrived:
                # in the order of arrival, which the start of tasks is not
                clients.start_soon(crowd.serve, sock, crowd.enter())


@contextmanager
def limited(step: str, limit_s: float) -> Iterator[None]:
    """A step of a client's greeting; ClientRefused when it takes longer."""
    try:
        with trio.fail_after(limit_s):
            yield
    except trio.TooSlowError:
        raise ClientRefused(f"it did not {step} within {limit_s:g} s") from None


async def serve_client(connection: Connection, handler: Handler) -> None:
    """Have it handled and close it; a failure ends in the log, for it must not end the others."""
    with closing(connection):
        try:
            await handler(connection)
        except* Exception as group:  # noqa: BLE001
            for failure in leaves(group):
                _log_failure(failure, connection.client_identity)


async def accept_some(listener: trio.socket.SocketType) -> list[trio.socket.SocketType]:
    """Wait for a client and take those that queue behind it too, in their order: a crowd then costs
    one turn of the event loop, not one each. OSError when none can be taken."""
    first, _address = await listener.accept()
    arrived = [first]
    with suppress(OSError), socket.socket(fileno=os.dup(listener.fileno())) as raw:
        while len(arrived) < _AT_ONCE:
            # non-blocking, as all that listener shares with us; what it meets, the next wait meets
            client, _address = raw.accept()
            arrived.append(trio.socket.from_stdlib_socket(client))
    return arrived


class _Crowd:
    def __init__(
        self, door: Door, handler: Handler, pending_limit: int, about: Mapping[str, object]
    ) -> None:
        self._door = door
        self._handler = handler
        self._pending_limit = pending_limit
        self._about = about
        self._pending: dict[trio.CancelScope, Mapping[str, object]] = {}

    def enter(self) -> trio.CancelScope:
        """The scope of a client's greeting, for which the oldest of too many is dropped."""
        scope = trio.CancelScope()
        self._pending[scope] = self._about
        while len(self._pending) > self._pending_limit:
            oldest = next(iter(self._pending))
            log.warning(
                "too many silent clients, the oldest is dropped",
                **self._pending.pop(oldest),
                limit=self._pending_limit,
            )
            oldest.cancel()
        return scope

    async def serve(self, sock: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        """One client from accept to close; whatever fails ends only this client."""
        connection: Connection | None = None
        about = self._about
        with sock, scope:
            try:
                about = {**about, **self._door.look(sock)}
                if scope in self._pending:
                    self._pending[scope] = about
                connection = await self._door.admit(sock)
            except (ClientRefused, OSError, trio.BrokenResourceError) as error:
                log.warning("client refused", **about, reason=str(error))
            except Exception:  # a bug of ours is to cost this client, and not those that are served
                log.exception("client refused by a bug", **about)
            finally:
                self._pending.pop(scope, None)
        if connection is not None:
            await serve_client(connection, self._handler)


def _log_failure(error: BaseException, identity: str) -> None:
    if isinstance(error, (ZreplError, OSError, trio.BrokenResourceError)):
        log.warning("connection failed", identity=identity, error=str(error))
    else:
        log.error("connection failed by a bug", identity=identity, exc_info=error)
