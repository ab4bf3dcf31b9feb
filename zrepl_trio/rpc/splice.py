"""Moving a stream's bytes between a pipe and a data connection's frames, inside the kernel.

Only the 8-byte headers pass through Python, in the turns of a thread (`zrepl_trio.mover`); waiting,
limits and all that is not a stream's frame stay with the task. Used where the connection's fd and
the pipe's allow it (`bulk.spliceable`); `rpc.payload` copies everywhere else, with the same
results.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial

import trio

from zrepl_trio.bulk import raw_fd, wait_readable
from zrepl_trio.errors import LocalProtocolError, TransportError
from zrepl_trio.mover import TURN_BYTES, Mover, Stop, capacity, in_thread, pending_bytes
from zrepl_trio.pace import Pace
from zrepl_trio.rpc.dataconn import DataConn, FrameBody
from zrepl_trio.rpc.frames import MAX_SENT_PAYLOAD
from zrepl_trio.rpc.heartbeat import PEER_LIMIT_S
from zrepl_trio.rpc.machine import Event, StreamFrame

__all__ = ["spliced_in", "spliced_out"]


async def spliced_out(
    reader: trio.abc.ReceiveStream,
    target: int,
    data: DataConn,
    on_progress: Callable[[int], None],
    pace: Pace,
) -> int:
    """Send all of `reader`, a pipe, as stream frames into the connection's fd `target`, without
    the stream's end, at its pace; the count of bytes. Raises as `payload.frames_out`."""
    total = 0
    source = _fd(reader)
    frames = _FramesOut(source, target, data)
    while True:
        await wait_readable(reader)
        if pending_bytes(source):
            # before the burst, since nobody else can send meanwhile
            frames.budget = await pace.take(TURN_BYTES)
            try:
                moved = await _one_burst(frames, target, data, on_progress)
            finally:
                pace.give_back(frames.budget)
        else:
            # readable and empty: the end, or a byte that came since; only a read can tell
            try:
                first = os.read(source, 1)
            except BlockingIOError:
                continue
            if not first:
                return total
            await pace.take(1)
            async with data.frame(1) as body:
                await body.send_all(first)
            moved = 1
            on_progress(1)
        total += moved


async def _one_burst(
    frames: _FramesOut, target: int, data: DataConn, on_progress: Callable[[int], None]
) -> int:
    """Send what there is, in whole frames, for one turn or as long as the last frame takes."""
    total = 0
    async with data.burst() as burst:
        stop: Stop | None = Stop.TARGET
        while stop is Stop.TARGET:
            try:
                stop, taken, moved = await in_thread(partial(frames.turn, burst))
            except (trio.BrokenResourceError, OSError) as error:
                raise TransportError(f"the connection broke while sending: {error}") from error
            if taken:
                burst.moved(taken)
            if moved:
                on_progress(moved)
                total += moved
            if stop is Stop.TARGET:
                await trio.lowlevel.wait_writable(target)
    return total


class _FramesOut:
    """`budget` is how many bytes may still be announced; a turn ends with it."""

    def __init__(self, source: int, target: int, data: DataConn) -> None:
        self._mover = Mover(source, target)
        self._data = data
        self._wanted = min(MAX_SENT_PAYLOAD, capacity(source) // 2)
        self._header = b""
        self._left = 0
        self.budget = 0

    def turn(self, burst: FrameBody) -> tuple[Stop | None, int, int]:
        """In a thread: why it ended, bytes written to the connection, bytes of the stream in them.

        Only Stop.TARGET ends it inside a frame.
        """
        mover = self._mover
        mover.begin_turn()
        taken = moved = 0
        while True:
            if self._header:
                count, stop = mover.write(self._header)
                self._header = self._header[count:]
                taken += count
                if stop is not None:
                    return stop, taken, moved
            # the bytes are in the pipe: only the connection can make this wait
            count, stop = mover.splice(self._left)
            self._left -= count
            taken += count
            moved += count
            if stop is Stop.TARGET:
                return stop, taken, moved
            if stop is not None:
                raise LocalProtocolError("somebody else reads from the stream's pipe")
            if mover.turn_is_over or not self.budget:
                return None, taken, moved
            if not (held := mover.gather(min(self._wanted, self.budget))):
                return None, taken, moved
            self._left = min(held, MAX_SENT_PAYLOAD, self.budget)
            self.budget -= self._left
            self._header = self._data.announce(burst, self._left)


def _fd(stream: object) -> int:
    fd = raw_fd(stream)
    assert fd is not None
    return fd


async def spliced_in(
    source: int,
    sink: trio.abc.SendStream,
    data: DataConn,
    on_progress: Callable[[int], None],
    pace: Pace,
) -> int:
    """Move one incoming stream from the connection's fd `source` into `sink`, a pipe, up to its
    clean end, at its pace; the count of bytes. Raises as `payload.frames_in`."""
    total = 0
    frames = _FramesIn(source, _fd(sink), data)
    with data.silence_limit() as scope:
        # runs only while we wait for the peer, from its last byte on
        limit_at = trio.current_time() + PEER_LIMIT_S
        while True:
            scope.deadline = math.inf
            asked_at = trio.current_time()
            budget = await pace.take(TURN_BYTES)
            # while we did not look, the peer was not silent
            limit_at += trio.current_time() - asked_at
            try:
                end, taken, moved = await in_thread(partial(frames.turn, budget))
            except OSError as error:
                raise TransportError(f"the connection broke while receiving: {error}") from error
            pace.give_back(budget - moved)
            if moved:
                data.work_goes_on()
                on_progress(moved)
                total += moved
            if taken:
                limit_at = trio.current_time() + PEER_LIMIT_S
            match end:
                case Stop.SOURCE:
                    scope.deadline = limit_at
                    await trio.lowlevel.wait_readable(source)
                case Stop.TARGET:
                    # our own `zfs recv` takes nothing: the peer is not what is silent
                    await sink.wait_send_all_might_not_block()
                    limit_at = trio.current_time() + PEER_LIMIT_S
                case Stop.END:
                    raise data.link_ended()
                case None:
                    pass
                case event:
                    if not data.stream_goes_on(event):
                        return total


class _FramesIn:
    def __init__(self, source: int, target: int, data: DataConn) -> None:
        self._mover = Mover(source, target)
        self._inbound = data.inbound
        self._left = 0

    def turn(self, budget: int) -> tuple[Stop | Event | None, int, int]:
        """In a thread: why it ended, bytes taken from the connection, bytes of the stream in them,
        `budget` at most.

        It ends at whatever is not a frame of the stream, with that event.
        """
        mover, inbound, parser = self._mover, self._inbound, self._inbound.parser
        mover.begin_turn()
        taken = moved = 0
        while True:
            count, stop = mover.splice(min(self._left, budget - moved))
            parser.payload_moved(count)
            self._left -= count
            taken += count
            moved += count
            if stop is not None or mover.turn_is_over or (self._left and moved == budget):
                return stop, taken, moved
            # a header, or the payload of what is not the stream
            got, stop = mover.read(parser.want)
            if stop is not None:
                return stop, taken, moved
            taken += len(got)
            parser.receive_data(got)
            match inbound.next_event():
                case StreamFrame(length):
                    self._left = length
                case None:
                    pass
                case event:
                    return event, taken, moved
