"""Moving a stream's bytes between a pipe and a data connection's frames.

Spliced where both ends are fds that allow it; copied here otherwise. What must hold either way: the
bytes of a frame are at hand before it is announced, since a frame cannot pause; only a read of
0 bytes is an EOF; and no payload byte is read ahead.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from zrepl_trio.bulk import CHUNK_BYTES, PAUSE_S, raw_fd, spliceable
from zrepl_trio.pace import Pace
from zrepl_trio.rpc.dataconn import DataConn
from zrepl_trio.rpc.frames import MAX_SENT_PAYLOAD
from zrepl_trio.rpc.splice import spliced_in, spliced_out

__all__ = ["frames_in", "frames_out", "rest_of_frame"]


async def frames_out(
    reader: trio.abc.ReceiveStream, data: DataConn, on_progress: Callable[[int], None], pace: Pace
) -> int:
    """Send all of `reader` as stream frames, without the stream's end; the count of bytes. A frame
    is announced when `pace` has let all of it.

    Raises what `DataConn` raises for the link, and the reader's own trio error for the reader.
    """
    source, target = raw_fd(reader), data.connection.write_fd
    if source is not None and target is not None and spliceable(source, target):
        return await spliced_out(reader, target, data, on_progress, pace)
    total = 0
    ended = False
    while not ended:
        chunk = bytearray(await reader.receive_some(MAX_SENT_PAYLOAD))
        if not chunk:
            break
        # a source that pauses has its bytes sent at once, a busy one fills its frames
        with trio.move_on_after(PAUSE_S) as gathering:
            while len(chunk) < MAX_SENT_PAYLOAD and not ended:
                more = await reader.receive_some(MAX_SENT_PAYLOAD - len(chunk))
                ended = not more
                chunk += more
                gathering.deadline = trio.current_time() + PAUSE_S
        view = memoryview(chunk)
        while view:
            count = await pace.take(len(view))
            async with data.frame(count) as body:
                await body.send_all(view[:count])
            view = view[count:]
            total += count
            on_progress(count)
    return total


async def frames_in(
    data: DataConn, sink: trio.abc.SendStream, on_progress: Callable[[int], None], pace: Pace
) -> int:
    """Move one incoming stream into `sink`, up to its clean end; the count of bytes. What `pace` has
    not let yet is left unread: the peer waits, and our heartbeats tell it that we live.

    Raises SourceFailed when the sender says that its stream is incomplete, what `DataConn`
    raises for the link, and the sink's own trio error for the sink.
    """
    source, target = data.connection.read_fd, raw_fd(sink)
    if source is not None and target is not None and spliceable(source, target):
        return await spliced_in(source, sink, data, on_progress, pace)
    total = 0
    while await data.next_stream_frame() is not None:
        total += await rest_of_frame(data, sink, on_progress, pace)
    return total


async def rest_of_frame(
    data: DataConn, sink: trio.abc.SendStream, on_progress: Callable[[int], None], pace: Pace
) -> int:
    """The same up to the end of the frame whose payload comes now; nothing between frames."""
    total = 0
    while data.payload_left:
        let = await pace.take(min(CHUNK_BYTES, data.payload_left))
        chunk = await data.receive_payload(let)
        pace.give_back(let - len(chunk))
        await sink.send_all(chunk)
        total += len(chunk)
        on_progress(len(chunk))
    return total
