"""Moving a stream's bytes between a pipe and a data connection's frames, inside the kernel.

Only the 8-byte headers pass through Python. Used where the connection's fd and the pipe's allow it
(`bulk.spliceable`); `rpc.payload` copies everywhere else, with the same results.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import trio

from zrepl_trio.bulk import CHUNK_BYTES, Pacer, capacity, gather, move_exactly
from zrepl_trio.errors import LocalProtocolError, TransportError
from zrepl_trio.rpc.dataconn import DataConn
from zrepl_trio.rpc.frames import MAX_SENT_PAYLOAD
from zrepl_trio.rpc.heartbeat import PEER_LIMIT_S

__all__ = ["spliced_in", "spliced_out"]


async def spliced_out(
    source: int, target: int, data: DataConn, on_progress: Callable[[int], None]
) -> int:
    """Send all of the pipe `source` as stream frames into the connection's fd `target`, without
    the stream's end; the count of bytes. Raises as `payload.frames_out`."""
    total = 0
    pacer = Pacer(source, target)
    wanted = min(CHUNK_BYTES, capacity(source) // 2)
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
        length = min(held, MAX_SENT_PAYLOAD)
        async with data.frame(length) as body:
            try:
                # the bytes are in the pipe: only the connection can make this wait
                moved = await move_exactly(source, target, length, pacer, body.moved)
            except (trio.BrokenResourceError, OSError) as error:
                raise TransportError(f"the connection broke while sending: {error}") from error
        if moved < length:
            raise LocalProtocolError("somebody else reads from the stream's pipe")
        total += length
        on_progress(length)


async def spliced_in(
    source: int, target: int, data: DataConn, on_progress: Callable[[int], None]
) -> int:
    """Move one incoming stream from the connection's fd `source` into the pipe `target`, up to its
    clean end; the count of bytes. Raises as `payload.frames_in`."""
    total = 0
    pacer = Pacer(source, target)
    while await data.next_stream_frame() is not None:
        length = data.payload_left
        with data.silence_limit() as scope:

            def taken(count: int, scope: trio.CancelScope = scope) -> None:
                scope.deadline = trio.current_time() + PEER_LIMIT_S
                data.payload_moved(count)
                on_progress(count)

            def waiting(for_peer: bool, scope: trio.CancelScope = scope) -> None:
                # while our own `zfs recv` takes nothing, the peer is not what is silent
                if not for_peer:
                    scope.deadline = math.inf
                elif scope.deadline == math.inf:
                    scope.deadline = trio.current_time() + PEER_LIMIT_S

            try:
                moved = await move_exactly(source, target, length, pacer, taken, waiting)
            except OSError as error:
                raise TransportError(f"the connection broke while receiving: {error}") from error
            total += moved
        if moved < length:
            raise data.link_ended()
    return total
