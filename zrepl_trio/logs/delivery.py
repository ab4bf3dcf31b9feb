"""Lines over a connection that comes and goes: the task behind the syslog and tcp outlets."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import trio

from zrepl_trio.errors import leaves
from zrepl_trio.logs.queue import LineQueue

__all__ = ["MIN_RETRY_S", "Connect", "Delivery"]

Connect = Callable[[], Awaitable[trio.abc.SendStream]]
"""Gives a stream that the caller closes; with a ReceiveStream its end is noticed, too."""

MIN_RETRY_S = 0.1
"""Shorter intervals are taken for this: `retry_interval: 10` means nanoseconds."""

_FAILURES = (OSError, trio.BrokenResourceError, trio.TooSlowError, UnicodeError)
"""UnicodeError: a host whose name TLS cannot ask for."""


class _TaskBell:
    """Wakes a task, from any thread."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._lot = trio.lowlevel.ParkingLot()

    def ring(self) -> None:
        self._token.run_sync_soon(self._lot.unpark_all, idempotent=True)

    async def heard(self) -> None:
        await self._lot.park()


class Delivery:
    """Takes lines into its `queue` and sends them in `run`, in bundles of up to `at_once_bytes`.

    Between the starts of two attempts there are
    `retry_s` seconds, the limit also of each attempt and of each bundle. A bundle that could not
    be sent whole is sent again. `trouble` is told why one failed; `lost` gives the line in the
    place of lost ones.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        retry_s: float,
        at_once_bytes: int,
        trouble: Callable[[str], None],
        lost: Callable[[int], bytes],
    ) -> None:
        self._connect = connect
        self._retry_s = max(retry_s, MIN_RETRY_S)
        self._at_once_bytes = at_once_bytes
        self._trouble = trouble
        self._lost = lost
        self._bell = _TaskBell()
        self._unsent: list[bytes] = []
        self.queue = LineQueue(self._bell.ring)

    def close(self) -> None:
        """Take no more lines."""
        self.queue.close()

    async def run(self) -> None:
        """Deliver until the queue is closed, and is empty or fails to be delivered."""
        while True:
            again_at = trio.current_time() + self._retry_s
            try:
                if await self._one_connection():
                    return
                self._trouble("the other side closed the connection")
            except _FAILURES as error:
                self._trouble(_reason(error, self._retry_s))
            if self.queue.closed:
                return
            with trio.move_on_at(again_at):
                while not self.queue.closed:
                    await self._bell.heard()

    async def _one_connection(self) -> bool:
        """Whether all is delivered, for good; False when the other side has closed."""
        with trio.fail_after(self._retry_s):
            stream = await self._connect()
        try:
            delivered = await self._send(stream)
            if delivered:
                await stream.aclose()
        finally:
            await trio.aclose_forcefully(stream)
        return delivered

    async def _send(self, stream: trio.abc.SendStream) -> bool:
        failure: Exception | None = None
        delivered = False
        async with trio.open_nursery() as nursery:
            if isinstance(stream, trio.abc.ReceiveStream):
                nursery.start_soon(_until_closed, stream, nursery.cancel_scope)
            try:
                while await self._something_to_send():
                    with trio.fail_after(self._retry_s):
                        await stream.send_all(self._unsent[0])
                    del self._unsent[0]
                delivered = True
            except _FAILURES as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure:
            raise failure
        return delivered

    async def _something_to_send(self) -> bool:
        """Wait for it; False when nothing will come any more."""
        while not self._unsent:
            lost, lines = self.queue.take(self._at_once_bytes)
            if lost:
                self._unsent.append(self._lost(lost))
            if lines:
                self._unsent.append(b"".join(lines))
            elif self.queue.closed:
                return False
            else:
                await self._bell.heard()
        return True


async def _until_closed(stream: trio.abc.ReceiveStream, scope: trio.CancelScope) -> None:
    """Cancel `scope` when the other side closes: what is sent after that would be lost unseen.

    What it says is dropped, but must be read: a connection that is closed with something unread
    is reset, and takes along what we sent last."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    scope.cancel()


def _reason(error: Exception, limit_s: float) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no progress within {limit_s:g} s"
    causes = leaves(error.__cause__) if error.__cause__ else ()
    told: list[Exception] = [cause for cause in causes if isinstance(cause, OSError)]
    return "; ".join(dict.fromkeys(_text(each) for each in told or [error]))


def _text(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
