"""The driver of a data connection: frames over a `Connection`, heartbeats, limits, shutdown.

One task reads, whoever holds the lock writes, and the heartbeats go out from a task of their own
from the label to the shutdown, however long a handler or a slow disk takes. A frame that was
begun must be completed: once a write was cut short, by an error or a cancel, the connection says
no more, not even goodbye, since whatever it said would read as the rest of that frame.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from zrepl_trio.errors import (
    LocalProtocolError,
    PeerStuck,
    PeerTimeout,
    RemoteError,
    RemoteProtocolError,
    SourceFailed,
    TransportError,
)
from zrepl_trio.rpc.background import open_background
from zrepl_trio.rpc.frames import HEARTBEAT
from zrepl_trio.rpc.heartbeat import PEER_LIMIT_S, HeartbeatTimer, WorkLimit, WriteLimit
from zrepl_trio.rpc.machine import (
    Event,
    Exchange,
    Heartbeat,
    Inbound,
    Message,
    Reset,
    Role,
    State,
    StreamEnd,
    StreamFailed,
    StreamFrame,
    response_error,
)
from zrepl_trio.rpc.shutdown import ShutdownTotals, shut_down
from zrepl_trio.transport.base import Connection

__all__ = ["DataConn", "FrameBody", "open_dataconn"]

_HEARTBEAT_LIMIT_S = 1.0
_WRITE_PIECE_BYTES = 64 * 1024


@asynccontextmanager
async def open_dataconn(
    connection: Connection,
    our_role: Role,
    *,
    work_limit_s: float = math.inf,
    shutdowns: ShutdownTotals | None = None,
) -> AsyncIterator[DataConn]:
    """Frames on a connection that has been greeted; heartbeats run inside the block. A peer that does
    nothing else for `work_limit_s` while we wait for it is given up.

    At the end of the block, however it ends, the connection is shut down as zrepl does it and
    closed (`shutdown`), and counted in `shutdowns`.
    """
    data = DataConn(connection, our_role, work_limit_s=work_limit_s)
    try:
        async with open_background() as nursery:
            nursery.start_soon(data._send_heartbeats)  # noqa: SLF001 - its own task
            yield data
    finally:
        await shut_down(connection, data.last_frame(), shutdowns or ShutdownTotals())  # noqa: ASYNC102 - shields itself


class FrameBody:
    """Frames that were announced: exactly their bytes must follow, by one of two ways.

    Either `send_all`, or bytes put into `connection.write_fd` by other means, told by `moved`.
    """

    def __init__(
        self,
        connection: Connection,
        limit: WriteLimit,
        scope: trio.CancelScope,
        work: WorkLimit | None,
    ) -> None:
        self.connection = connection
        self.work = work
        """None for a heartbeat, which is no work."""
        self.left = 0
        self.length = 0
        self._limit = limit
        self._scope = scope

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send these bytes of the payload."""
        view = memoryview(data)
        with _link_errors("sending"):
            while view:
                # in pieces, so that a slow link shows progress
                piece = view[:_WRITE_PIECE_BYTES]
                await self.connection.send_all(piece)
                view = view[len(piece) :]
                self.moved(len(piece))

    def moved(self, count: int) -> None:
        """`count` bytes have left; puts off the write limit."""
        self.left -= count
        now = trio.current_time()
        self._limit.progress(now)
        self._scope.deadline = self._limit.deadline
        if self.work is not None:
            self.work.progress(now)

    def peer_lives(self) -> None:
        """The peer sent a heartbeat; puts off the write limit."""
        self._limit.peer_heartbeat(trio.current_time())
        self._scope.deadline = self._limit.deadline


class DataConn:
    """One request and its answer over a connection; made by `open_dataconn`.

    Every method raises TransportError or PeerTimeout when the link fails, RemoteProtocolError
    when the peer breaks the protocol, those that receive PeerStuck when it does nothing but live. At
    most one task may receive at a time.
    """

    def __init__(
        self, connection: Connection, our_role: Role, *, work_limit_s: float = math.inf
    ) -> None:
        self.connection = connection
        self._role = our_role
        self._work = WorkLimit(trio.current_time(), work_limit_s)
        self._exchange = Exchange(our_role)
        self._inbound = self._exchange.inbound
        self._outbound = self._exchange.outbound
        self._timer = HeartbeatTimer(trio.current_time())
        self._send_lock = trio.StrictFIFOLock()
        self._writing: FrameBody | None = None
        self._torn = False

    # --- messages ---

    async def send_request(self, endpoint: str, body: bytes) -> None:
        """Ask for `endpoint`."""
        await self._send_frames(self._outbound.request(endpoint, body))

    async def receive_request(self) -> tuple[str, bytes]:
        """What the client asks for: endpoint name and body."""
        await self._receive_message()
        body = await self._receive_message()
        return self._exchange.endpoint, body

    async def send_answer(self, body: bytes) -> None:
        """Answer that the handler did well; for a send, the stream follows."""
        await self._send_frames(self._outbound.answer(body))

    async def send_refusal(self, text: str) -> None:
        """Answer that the handler failed, with its text (cut if zrepl could not take it)."""
        await self._send_frames(self._outbound.refusal(text))

    async def receive_answer(self) -> bytes:
        """The body of the answer; RemoteError with the peer's text if its handler failed."""
        error = response_error(await self._receive_message())
        if error is not None:
            raise RemoteError(error)
        return await self._receive_message()

    async def wait_for_end(self) -> None:
        """Read heartbeats until the peer leaves; an error unless all of our answer is out.

        For a server with nothing more to hear: it notices a client that went away or fell silent.
        """
        try:
            event = await self._next_event()
        except (TransportError, PeerStuck):
            if self._outbound.state is State.DONE:
                return
            raise
        raise RemoteProtocolError(f"peer sent a {type(event).__name__} after its request")

    @property
    def can_refuse(self) -> bool:
        """Whether an answer can still be given: none was begun, and no frame was cut short."""
        return not self._torn and self._outbound.state is State.HEADER

    # --- the outgoing stream ---

    @asynccontextmanager
    async def frame(self, length: int) -> AsyncIterator[FrameBody]:
        """Announce a stream frame; the block must move exactly `length` bytes.

        They must be at hand before: an announced frame cannot pause, heartbeats included.
        """
        async with self._sending(length) as body:
            header = self._outbound.stream_frame(length)
            with _link_errors("sending"):
                await self.connection.send_all(header)
            yield body

    @asynccontextmanager
    async def burst(self) -> AsyncIterator[FrameBody]:
        """Several stream frames at one go, for one who writes to `connection.write_fd` himself.

        In the block, `announce` each and move what it says. Nothing else, heartbeats included, is
        said meanwhile, so that the bytes of each frame must be at hand when it is announced.
        """
        async with self._sending(0) as body:
            yield body

    def announce(self, body: FrameBody, length: int) -> bytes:
        """The header of a burst's next frame; it and `length` bytes must be sent then."""
        header = self._outbound.stream_frame(length)
        body.left += len(header) + length
        body.length += len(header) + length
        return header

    async def send_stream_end(self) -> None:
        """The stream is complete."""
        await self._send_frames(self._outbound.stream_end())

    async def send_stream_failed(self, text: str) -> None:
        """The stream is incomplete: its source failed."""
        await self._send_frames(self._outbound.stream_failed(text))

    # --- the incoming stream ---

    async def next_stream_frame(self) -> int | None:
        """How many stream bytes come next, None at the stream's end; SourceFailed when the
        sender says that it is incomplete. They wait on the wire: take them by `receive_payload`.
        """
        event = await self._next_event()
        if isinstance(event, StreamFrame):
            return event.length
        self.stream_goes_on(event)
        return None

    @property
    def inbound(self) -> Inbound:
        """What the peer says, for one who reads `connection.read_fd` himself: he alone uses it
        meanwhile, and gives `stream_goes_on` each event but the stream's frames."""
        return self._inbound

    def stream_goes_on(self, event: Event) -> bool:
        """Heed what came between a stream's frames: False at its clean end.

        Raises SourceFailed when the sender says that its stream is incomplete.
        """
        if self._heeded(event):
            return True
        match event:
            case StreamEnd():
                return False
            case StreamFailed(text):
                raise SourceFailed(f"the sending side's stream failed: {text}")
            case _:
                raise LocalProtocolError(f"{type(event).__name__} where a stream was read")

    @property
    def payload_left(self) -> int:
        """Bytes of the current stream frame still on the wire."""
        return self._inbound.parser.payload_left

    async def receive_payload(self, at_most: int) -> bytes:
        """Some bytes of the current stream frame."""
        data = await self._receive(min(at_most, self.payload_left))
        self._inbound.parser.payload_moved(len(data))
        return data

    @contextmanager
    def silence_limit(self) -> Iterator[trio.CancelScope]:
        """PeerTimeout if the block waits too long for bytes; whoever gets some in between puts
        the scope's deadline off by PEER_LIMIT_S."""
        with trio.move_on_after(PEER_LIMIT_S) as scope:
            yield scope
        if scope.cancelled_caught:
            raise PeerTimeout(f"the peer was silent for {PEER_LIMIT_S:g} s")

    def work_goes_on(self) -> None:
        """Bytes of the stream came, told by one who reads `connection.read_fd` himself."""
        self._work.progress(trio.current_time())

    def link_ended(self) -> TransportError:
        """The error for an EOF here, which says what it cut off."""
        try:
            self._inbound.receive_eof()
        except RemoteProtocolError as error:
            return TransportError(str(error))
        return TransportError("the peer closed the connection")

    # --- reading ---

    async def _receive_message(self) -> bytes:
        event = await self._next_event()
        if not isinstance(event, Message):
            raise LocalProtocolError(f"{type(event).__name__} where a message was read")
        return event.data

    async def _next_event(self) -> Event:
        while True:
            event = self._inbound.next_event()
            if event is None:
                parser = self._inbound.parser
                parser.receive_data(await self._receive(parser.want))
            elif not self._heeded(event):
                return event

    def _heeded(self, event: Event) -> bool:
        """Whether the event was the connection's own affair."""
        match event:
            case Heartbeat():
                if self._writing is not None:
                    self._writing.peer_lives()
                self._check_work()
                return True
            case Reset():
                raise TransportError("the peer is shutting the connection down")
            case _:
                self.work_goes_on()
                return False

    def _check_work(self) -> None:
        """PeerStuck if it is the peer's turn, and has been for too long. One that sends no heartbeats
        has gone long before."""
        if self._writing is not None and self._writing.work is not None:
            self._work.check(trio.current_time(), "takes nothing of what is sent to it")
        elif self._outbound.state is State.DONE or (
            # who serves reads what is not yet all said; who does not, the answer to what he said
            self._role is Role.SERVER and self._inbound.state is not State.DONE
        ):
            self._work.check(trio.current_time(), "nothing but its heartbeats has come")

    async def _receive(self, at_most: int) -> bytes:
        with self.silence_limit(), _link_errors("receiving"):
            data = await self.connection.receive_some(at_most)
        if not data:
            raise self.link_ended()
        return bytes(data)

    # --- writing ---

    async def _send_frames(self, data: bytes) -> None:
        async with self._sending(len(data)) as body:
            await body.send_all(data)

    @asynccontextmanager
    async def _sending(self, length: int, *, when_free: bool = False) -> AsyncIterator[FrameBody]:
        try:
            # without the checkpoint of a lock that is free: it costs a pass of the scheduler a frame
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._send_lock.acquire()
        try:
            if self._torn:
                raise TransportError("the connection broke in the middle of a frame")
            limit = WriteLimit(trio.current_time())
            work = None if when_free else self._work
            if work is not None:
                # it is the peer's turn from now on
                work.progress(trio.current_time())
            with trio.CancelScope(deadline=limit.deadline) as scope:
                self._writing = body = FrameBody(self.connection, limit, scope, work)
                body.left = body.length = length
                try:
                    if when_free:
                        with _link_errors("sending"):
                            await self.connection.wait_send_all_might_not_block()
                    self._torn = True
                    yield body
                finally:
                    self._writing = None
                    if not body.left:
                        self._torn = False
                if body.left:
                    raise LocalProtocolError(
                        f"{body.left} of a frame's {body.length} bytes not sent"
                    )
            if scope.cancelled_caught:
                raise PeerTimeout(f"the peer took nothing for {PEER_LIMIT_S:g} s")
            self._timer.frame_sent(trio.current_time())
        finally:
            self._send_lock.release()

    async def _send_heartbeats(self) -> None:
        # errors end the beating only: who reads or writes meets them too, and knows what they cut
        with suppress(TransportError):
            while True:
                await trio.sleep_until(self._timer.next_deadline(trio.current_time()))
                if self._timer.on_time(trio.current_time()):
                    # what ends the beating may come at this very instant: a heartbeat cut by it
                    # would cost the connection its goodbye
                    async with self._sending(len(HEARTBEAT), when_free=True) as body:
                        with trio.move_on_after(_HEARTBEAT_LIMIT_S, shield=True):
                            await body.send_all(HEARTBEAT)
                        if body.left:
                            raise TransportError("a heartbeat was not taken")

    def last_frame(self) -> bytes | None:
        """What tells the peer that we go; None if it would read as the rest of another frame."""
        return None if self._torn else self._outbound.reset()


@contextmanager
def _link_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
        raise TransportError(f"the connection broke while {doing}: {error}") from error
