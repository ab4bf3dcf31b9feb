"""Streams of a replication step, to and from a data connection."""

from __future__ import annotations

from collections.abc import Callable

import trio

from zrepl_trio.endpoint.protocol import StreamSource
from zrepl_trio.errors import LocalProtocolError, SourceFailed
from zrepl_trio.pace import Pace
from zrepl_trio.rpc.dataconn import DataConn
from zrepl_trio.rpc.frames import MAX_SENT_PAYLOAD
from zrepl_trio.rpc.payload import frames_in, frames_out, rest_of_frame

__all__ = ["InboundStream", "send_stream"]


def _no_progress(_count: int) -> None:
    return


class InboundStream:
    """The stream that the peer sends on a data connection; a StreamSource.

    Lives as long as the connection. It can be moved once.
    """

    def __init__(self, data: DataConn) -> None:
        self._data = data
        self._taken = False
        self._complete = False
        self._head = b""
        self._ended = False
        self.on_progress: Callable[[int], None] = _no_progress
        self.pace = Pace()

    @property
    def reader(self) -> None:
        """Always None: the bytes come in frames."""
        return

    async def head(self, count: int) -> bytes:
        """See ShowsHead."""
        while len(self._head) < count and not self._ended:
            if self._data.payload_left:
                self._head += await self._data.receive_payload(count - len(self._head))
            else:
                self._ended = await self._data.next_stream_frame() is None
        return self._head[:count]

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        """Move all of it into `sink`; see StreamSource."""
        if self._taken:
            raise LocalProtocolError("a stream can be moved only once")
        self._taken = True
        count = await self._looked_at(sink)
        if not self._ended:
            count += await frames_in(self._data, sink, self.on_progress, self.pace)
        self._complete = True
        return count

    async def _looked_at(self, sink: trio.abc.SendStream) -> int:
        """Move what was read for `head`, and what is left of its frame."""
        head = memoryview(self._head)
        count = len(head)
        while head:
            let = await self.pace.take(len(head))
            await sink.send_all(head[:let])
            self.on_progress(let)
            head = head[let:]
        self._head = b""
        return count + await rest_of_frame(self._data, sink, self.on_progress, self.pace)

    async def finish(self) -> None:
        """SourceFailed unless `copy_into` has moved the whole stream."""
        await trio.lowlevel.checkpoint()
        if not self._complete:
            raise SourceFailed("the stream was not read to its end")


async def send_stream(data: DataConn, source: StreamSource) -> int:
    """Send all of `source` and its end; the count of bytes.

    A source that fails is told to the peer as such, then raised as SourceFailed. The end is
    sent only after `finish`, so a failed `zfs send` never looks like a complete stream.
    """
    failure: SourceFailed | None = None
    count = 0
    try:
        count = await _drain(data, source)
    except SourceFailed as error:
        failure = error
    if failure is not None:
        await data.send_stream_failed(str(failure))
        raise failure
    await data.send_stream_end()
    return count


async def _drain(data: DataConn, source: StreamSource) -> int:
    reader = source.reader
    try:
        if reader is None:
            return await source.copy_into(_FrameSink(data))
        count = await frames_out(reader, data, source.on_progress, source.pace)
        await source.finish()
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
        raise SourceFailed(f"reading the stream failed: {error}") from error
    return count


class _FrameSink(trio.abc.SendStream):
    """Makes frames of what is sent to it, for sources that have no pipe."""

    def __init__(self, data: DataConn) -> None:
        self._data = data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        await trio.lowlevel.checkpoint()
        while view:
            piece = view[:MAX_SENT_PAYLOAD]
            async with self._data.frame(len(piece)) as body:
                await body.send_all(piece)
            view = view[len(piece) :]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
