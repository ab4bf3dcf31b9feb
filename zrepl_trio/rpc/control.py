"""The calling side's control connection: opened by the first call, reopened when it was lost."""

from __future__ import annotations

import math
from typing import TypeVar

import trio

from zrepl_trio.errors import (
    PeerStuck,
    PeerTimeout,
    ProtocolError,
    RemoteError,
    RemoteProtocolError,
    TransportError,
    ZreplError,
    leaves,
)
from zrepl_trio.rpc.greeting import greet_server
from zrepl_trio.rpc.grpc import Failure, Status
from zrepl_trio.rpc.grpc_client import CallDone, GrpcClient
from zrepl_trio.rpc.heartbeat import WORK_LIMIT_S, WorkLimit, work_limit
from zrepl_trio.rpc.label import Label
from zrepl_trio.rpc.link import Link
from zrepl_trio.transport.base import Connecter, Connection

__all__ = ["CONNECT_LIMIT_S", "ControlClient"]

CONNECT_LIMIT_S = 20.0
"""grpc-go's limit for one attempt, start of ssh and handshake included."""

_GOODBYE = "client transport shutdown"
_E = TypeVar("_E", bound=ZreplError)


class ControlClient:
    """Makes calls over one connection that all of them share; `run` must be running.

    A connection that fails fails the calls that are on it; the next call dials again.
    """

    def __init__(
        self,
        connecter: Connecter,
        *,
        connect_limit_s: float = CONNECT_LIMIT_S,
        work_limit_s: float = WORK_LIMIT_S,
    ) -> None:
        self._connecter = connecter
        self._connect_limit_s = connect_limit_s
        self._work_limit_s = work_limit_s
        self._session: _Session | None = None
        self._attempt: _Attempt | None = None
        self._wanted = trio.Event()
        self.extensions: tuple[str, ...] = ()
        """The peer's, as it last said; none before the first connection."""

    @property
    def connected(self) -> bool:
        """Whether a call would not have to dial."""
        return self._session is not None and self._session.accepting

    async def run(self) -> None:
        """Dial when a call wants it, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            attempt = self._attempt
            assert attempt is not None  # the call that wants it has made it
            try:
                await self._serve(attempt)
            except* ZreplError as group:
                # several when reader, writer and keepalive met the same end at the same time
                self._end(attempt, next(leaves(group)))

    async def call(self, method: str, message: bytes) -> bytes:
        """The answer's message.

        Raises RemoteError with the text of the peer's handler, PeerStuck when a zrepl answers nothing at
        all for `work_limit_s`, TransportError or PeerTimeout for the link, ConnectFailed or
        HandshakeFailed when there is none. Cancelling it tells the peer.
        """
        session = self._session
        if session is None or not session.accepting:
            if self._attempt is None:
                self._attempt = _Attempt()
                self._wanted.set()
            attempt = self._attempt
            await attempt.done.wait()
            if attempt.error is not None:
                raise _again(attempt.error) from attempt.error
            session = attempt.session
            assert session is not None
        result = await session.call(f"/Replication/{method}", message)
        if isinstance(result, Failure):
            raise _raised(method, result)
        return result

    async def _serve(self, attempt: _Attempt) -> None:
        """Dial and serve the calls; always ends with an error, an orderly end's included."""
        dialling = trio.CancelScope(deadline=trio.current_time() + self._connect_limit_s)
        with dialling:
            async with self._connecter.connect() as connection:
                self.extensions = await greet_server(connection, Label.CONTROL)
                # the limit was for getting here: the scope goes on holding the connection
                dialling.deadline = math.inf
                limit_s = work_limit(self.extensions, self._work_limit_s)
                session = _Session(connection, limit_s)
                self._session = attempt.session = session
                self._attempt = None
                attempt.done.set()
                try:
                    await session.run()
                finally:
                    if self._session is session:
                        self._session = None
                # raised in here, so that the connecter can note what it knows of that end
                raise TransportError("the peer closed the control connection")
        if dialling.cancelled_caught:
            raise PeerTimeout(
                f"no control connection to {self._connecter.peer} "
                f"within {self._connect_limit_s:g} s"
            )

    def _end(self, attempt: _Attempt, error: ZreplError) -> None:
        if attempt.session is not None:
            attempt.session.fail(error)
            return
        attempt.error = error
        if self._attempt is attempt:
            self._attempt = None
        attempt.done.set()


class _Attempt:
    """One dialling that calls wait for together."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.session: _Session | None = None
        self.error: ZreplError | None = None


class _Session:
    """One live connection and the calls on it."""

    def __init__(self, connection: Connection, work_limit_s: float) -> None:
        self._work_limit_s = work_limit_s
        self._machine = GrpcClient(trio.current_time())
        self._link = Link[CallDone](connection, self._machine)
        self._waiting: dict[int, _Waiter] = {}
        self._error: ZreplError | None = None

    @property
    def accepting(self) -> bool:
        return self._error is None and self._machine.accepting

    async def run(self) -> None:
        await self._link.run(self._on_done, goodbye=_GOODBYE)

    async def call(self, path: str, message: bytes) -> bytes | Failure:
        if self._error is not None:
            raise _again(self._error) from self._error
        if self._machine.goaway is not None:
            raise TransportError(str(self._machine.goaway))
        if not self._machine.accepting:
            raise TransportError("the control connection is being closed")
        number = self._machine.start_call(path, message)
        work = WorkLimit(trio.current_time(), self._work_limit_s)
        waiter = self._waiting[number] = _Waiter(work)
        self._link.wake()
        try:
            await self._answered(path, waiter)
        except (trio.Cancelled, PeerStuck):
            self._machine.cancel_call(number)
            self._link.wake()
            raise
        finally:
            self._waiting.pop(number, None)
        if waiter.result is None:
            assert self._error is not None
            raise _again(self._error) from self._error
        return waiter.result

    async def _answered(self, path: str, waiter: _Waiter) -> None:
        """Wait for the answer while any call is answered: a busy peer takes one after the other."""
        while not waiter.done.is_set():
            with trio.move_on_at(waiter.work.deadline):
                await waiter.done.wait()
                return
            waiter.work.check(trio.current_time(), f"has not answered {path.rpartition('/')[2]}")

    def fail(self, error: ZreplError) -> None:
        self._error = error
        for waiter in self._waiting.values():
            waiter.done.set()

    def _on_done(self, done: CallDone) -> None:
        for waiting in self._waiting.values():
            waiting.work.progress(trio.current_time())
        waiter = self._waiting.get(done.call)
        if waiter is not None:
            waiter.result = done.result
            waiter.done.set()


class _Waiter:
    def __init__(self, work: WorkLimit) -> None:
        self.work = work
        self.done = trio.Event()
        self.result: bytes | Failure | None = None


def _again(error: _E) -> _E | TransportError:
    """The same error for one more who waited: sharing one object would mix their tracebacks."""
    kind = type(error) if isinstance(error, TransportError | ProtocolError) else TransportError
    again = kind(str(error))
    for note in getattr(error, "__notes__", ()):
        again.add_note(note)
    return again


def _raised(method: str, failure: Failure) -> ZreplError:
    text = failure.text or "no reason given"
    match failure.status:
        case Status.UNKNOWN:
            return RemoteError(failure.text)
        case Status.UNAVAILABLE:
            return TransportError(f"{method}: {text}")
        case Status.DEADLINE_EXCEEDED:
            return PeerTimeout(f"{method}: {text}")
        case Status.RESOURCE_EXHAUSTED | Status.INTERNAL:
            return RemoteProtocolError(f"{method}: {text}")
        case Status.UNIMPLEMENTED:
            return RemoteError(f"the peer does not know {method}: {text}")
        case _:
            return RemoteError(f"{method} failed with gRPC status {failure.status}: {text}")
