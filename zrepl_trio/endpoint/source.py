"""A local `zfs send` as the source of a stream, its exit status included."""

from __future__ import annotations

from collections.abc import Callable

import trio

from zrepl_trio import bulk
from zrepl_trio.errors import SourceFailed, ZfsError
from zrepl_trio.pace import Pace, Throttle
from zrepl_trio.zfs.port import ZfsSend

__all__ = ["ZfsSource"]


def _nobody_counts(_count: int) -> None:
    return


class ZfsSource:
    """A StreamSource on a running `zfs send`, which belongs to whoever opened it.

    `what` names the stream in errors, as in `tank/a@1`; it keeps to `throttle`.
    """

    def __init__(self, send: ZfsSend, what: str, throttle: Throttle | None = None) -> None:
        self.on_progress: Callable[[int], None] = _nobody_counts
        self.pace = Pace(throttle)
        self._send = send
        self._what = what

    @property
    def reader(self) -> trio.abc.ReceiveStream:
        return self._send.reader

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        count = await bulk.copy(self._send.reader, sink, self.on_progress, self.pace)
        await self.finish()
        return count

    async def finish(self) -> None:
        try:
            await self._send.finish()
        except ZfsError as error:
            raise SourceFailed(f"zfs send of {self._what} failed: {error}") from error
