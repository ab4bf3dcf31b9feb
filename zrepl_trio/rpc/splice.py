"""Moving a stream's bytes between a pipe and a data connection's frames, inside the kernel.

Only the 8-byte headers pass through Python. Used where the connection's fd and the pipe's allow it
(`bulk.spliceable`); `rpc.payload` copies everywhere else, with the same results. What Python does
for each frame is what the CPU time goes to, so limits are looked at only when something waits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import trio

from zrepl_trio.bulk import (
    Pacer,
    capacity,
    gather,
    move_exactly,
    pending_bytes,
    read_exactly,
    write_all,
)
from zrepl_trio.errors import LocalProtocolError, TransportError
from zrepl_trio.rpc.dataconn import DataConn
from zrepl_trio.rpc.frames import MAX_SENT_PAYLOAD
from zrepl_trio.rpc.heartbeat import PEER_LIMIT_S

__all__ = ["spliced_in", "spliced_out"]

_FRAMES_A_TURN = 16
"""How many frames go at most before the other tasks get their turn: 8 MiB, a few milliseconds."""


async def spliced_out(
    source: int, target: int, data: DataConn, on_progress: Callable[[int], None]
) -> int:
    """Send all of the pipe `source` as stream frames into the connection's fd `target`, without
    the stream's end; the count of bytes. Raises as `payload.frames_out`."""
    total = 0
    pacer = Pacer(source, target)
    wanted = min(MAX_SENT_PAYLOAD, capacity(source) // 2)
    while True:
        held = await gather(source, wanted, pacer)
        if held == 0:
            # readable and empty: the end, or a byte that came since; only a read can tell
            try:
                first = os.read(source, 1)
            except BlockingIOError:
                continue
            if not first:
                return total
            async with data.frame(1) as body:
                await body.send_all(first)
            total += 1
            on_progress(1)
            continue
        async with data.burst() as burst:
            for _ in range(_FRAMES_A_TURN):
                length = min(held, MAX_SENT_PAYLOAD)
                header = data.announce(burst, length)
                try:
                    await write_all(target, header, pacer, burst.waiting)
                    burst.took(len(header))
                    # the bytes are in the pipe: only the connection can make this wait
                    moved = await move_exactly(
                        source, target, length, pacer, burst.took, burst.waiting
                    )
                except (trio.BrokenResourceError, OSError) as error:
                    raise TransportError(f"the connection broke while sending: {error}") from error
                if moved < length:
                    raise LocalProtocolError("somebody else reads from the stream's pipe")
                total += length
                on_progress(length)
                held = pending_bytes(source)
                if held < wanted and await pacer.pause():
                    # a pause is short enough to keep the lock; a source that brings little in
                    # it is waited for without
                    held = pending_bytes(source)
                if held < wanted // 2:
                    break
            else:
                await trio.lowlevel.checkpoint()


async def spliced_in(
    source: int, target: int, data: DataConn, on_progress: Callable[[int], None]
) -> int:
    """Move one incoming stream from the connection's fd `source` into the pipe `target`, up to its
    clean end; the count of bytes. Raises as `payload.frames_in`."""
    total = 0
    frames = 0
    pacer = Pacer(source, target)
    with data.silence_limit() as scope:
        silence = _Silence(scope)

        def taken(count: int) -> None:
            silence.progressed = True
            data.payload_moved(count)
            on_progress(count)

        async def header(count: int) -> bytes:
            try:
                got = await read_exactly(source, count, pacer, silence.waiting)
            except OSError as error:
                raise TransportError(f"the connection broke while receiving: {error}") from error
            if not got:
                raise data.link_ended()
            silence.progressed = True
            return got

        while await data.next_stream_frame(header) is not None:
            length = data.payload_left
            try:
                moved = await move_exactly(source, target, length, pacer, taken, silence.waiting)
            except OSError as error:
                raise TransportError(f"the connection broke while receiving: {error}") from error
            if moved < length:
                raise data.link_ended()
            total += moved
            frames += 1
            if frames % _FRAMES_A_TURN == 0:
                await trio.lowlevel.checkpoint()
    return total


class _Silence:
    """Keeps a silence limit: it runs only while we wait for the peer, from its last byte on."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self.progressed = False

    def waiting(self, for_peer: bool) -> None:
        if not for_peer:
            # our own `zfs recv` takes nothing: the peer is not what is silent
            self._scope.deadline = math.inf
        elif self.progressed or self._scope.deadline == math.inf:
            self._scope.deadline = trio.current_time() + PEER_LIMIT_S
        self.progressed = False
