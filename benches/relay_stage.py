"""One end of the framed relay, as a process: `python -m benches.relay_stage out|in`.

`out` reads a plain stream from stdin and sends it as the frames of a data connection to stdout;
`in` does the reverse. Both run the daemon's own code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import trio

from zrepl_trio.pace import Pace
from zrepl_trio.rpc.dataconn import open_dataconn
from zrepl_trio.rpc.machine import Role
from zrepl_trio.rpc.streams import InboundStream, send_stream
from zrepl_trio.transport.fdconn import FdConnection


class _Stdin:
    """The plain stream as a StreamSource."""

    def __init__(self) -> None:
        self.reader = trio.lowlevel.FdStream(os.dup(0))
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.pace = Pace()

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        raise AssertionError("a source with a reader is read directly")

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()


async def send() -> None:
    connection = FdConnection(os.open(os.devnull, os.O_RDONLY), os.dup(1), client_identity="bench")
    async with open_dataconn(connection, Role.CLIENT) as data:
        await data.send_request("/v1/recv", b"")
        await send_stream(data, _Stdin())


async def receive() -> None:
    connection = FdConnection(os.dup(0), os.open(os.devnull, os.O_WRONLY), client_identity="bench")
    async with open_dataconn(connection, Role.SERVER) as data:
        await data.receive_request()
        await InboundStream(data).copy_into(trio.lowlevel.FdStream(os.dup(1)))


if __name__ == "__main__":
    trio.run({"out": send, "in": receive}[sys.argv[1]])
