"""What every transport offers: a `Connection` with a known identity, dialled or accepted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

__all__ = ["Connecter", "Connection", "Listener"]


class Connection(trio.abc.HalfCloseableStream):
    """A bidirectional byte stream whose peer is known.

    On the serving side `client_identity` is what the transport proved; on the connecting side
    it names the peer for logs. Either raw fd is None where bytes must be copied (TLS, memory);
    else it is non-blocking, stays owned by the connection, and may be spliced from or to by
    the task that holds that direction. `aclose` never raises for a peer that is gone.
    """

    client_identity: str

    @property
    @abstractmethod
    def read_fd(self) -> int | None:
        """The fd that incoming bytes are read from."""

    @property
    @abstractmethod
    def write_fd(self) -> int | None:
        """The fd that outgoing bytes are written to (may equal `read_fd`)."""

    @abstractmethod
    def close(self) -> None:
        """As `aclose`, for those who can't await: at once, without a farewell."""


class Connecter(Protocol):
    """Dials the peer of one job."""

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """A fresh connection, ready for the version handshake; its child, fds and tasks end
        with the block, at any cancel. Raises ConnectFailed or HandshakeFailed, with ssh's words."""

    @property
    def peer(self) -> str:
        """The peer as a person would name it, for logs and errors."""


class Listener(Protocol):
    """Accepts the clients of one job."""

    async def serve(
        self,
        handler: Callable[[Connection], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled; each connection is handed to `handler` in a task of its own and
        closed after it. `started` is called once all sockets listen; Refused when they can't.
        A slow or hostile client delays no other; a failing handler is logged, never fatal."""
