"""The driver of a control connection: moves bytes between a connection and its HTTP/2 machine.

Reading and writing are tasks of their own, so that neither side can keep the other from reading;
what waits to be written is bounded by the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import trio

from zrepl_trio.errors import RemoteProtocolError, TransportError
from zrepl_trio.rpc.background import open_background
from zrepl_trio.transport.base import Connection

__all__ = ["Link", "Machine"]

_E = TypeVar("_E")
_E_co = TypeVar("_E_co", covariant=True)
_RECEIVE_BYTES = 64 * 1024
_GOODBYE_LIMIT_S = 1.0


class Machine(Protocol[_E_co]):
    """What a `Link` drives: GrpcClient or GrpcServer."""

    @property
    def finished(self) -> bool: ...
    def receive_data(self, data: bytes, now: float) -> Sequence[_E_co]: ...
    def data_to_send(self) -> bytes: ...
    def next_deadline(self, now: float) -> float: ...
    def on_time(self, now: float) -> None: ...
    def close(self, debug: str, *, fault: bool = False) -> None: ...


class Link(Generic[_E]):
    """One connection and its machine. Whoever makes the machine say something calls `wake`."""

    def __init__(self, connection: Connection, machine: Machine[_E]) -> None:
        self._connection = connection
        self._machine = machine
        self._pending = trio.Event()
        self._sending = False
        self._fault: RemoteProtocolError | None = None

    def wake(self) -> None:
        """There is something to send."""
        self._pending.set()

    def end_after_flush(self, fault: RemoteProtocolError) -> None:
        """Send what is pending, then have `run` raise this fault of the peer."""
        self._fault = fault
        self.wake()

    async def run(self, handle: Callable[[_E], None], *, goodbye: str) -> None:
        """Serve the connection until the peer closes it or the machine is finished.

        `handle` gets each event; `goodbye` is the reason that the peer is given at the end.
        Raises TransportError, PeerTimeout, RemoteProtocolError. Does not close the connection.
        """
        try:
            async with open_background() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
                await self._read(handle)
        except RemoteProtocolError as error:
            self._fault = error
            raise
        finally:
            with trio.move_on_after(_GOODBYE_LIMIT_S, shield=True):
                await self._say_goodbye(goodbye)

    async def _read(self, handle: Callable[[_E], None]) -> None:
        while True:
            try:
                data = await self._connection.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                raise TransportError(f"the control connection broke: {error}") from error
            if not data:
                return
            for event in self._machine.receive_data(bytes(data), trio.current_time()):
                handle(event)
            if self._machine.finished:
                return
            self.wake()

    async def _write(self) -> None:
        while True:
            while data := self._machine.data_to_send():
                await self._send(data)
            if self._fault is not None:
                raise self._fault
            await self._pending.wait()
            self._pending = trio.Event()

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep_until(self._machine.next_deadline(trio.current_time()))
            self._machine.on_time(trio.current_time())
            self.wake()

    async def _send(self, data: bytes) -> None:
        self._sending = True
        try:
            await self._connection.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise TransportError(f"the control connection broke: {error}") from error
        self._sending = False

    async def _say_goodbye(self, goodbye: str) -> None:
        if self._sending:
            return  # a frame was cut short: whatever follows would be read as its rest
        if self._fault is None:
            self._machine.close(goodbye)
        else:
            self._machine.close(str(self._fault), fault=True)
        with suppress(TransportError):
            while data := self._machine.data_to_send():
                await self._send(data)
