"""Log lines as datagrams: syslog's, and those of a log server over UDP."""

from __future__ import annotations

import trio

__all__ = ["Datagrams", "cut"]


def cut(text: bytes, most: int) -> bytes:
    """UTF-8 text of `most` bytes, and a sign where more was cut off."""
    if len(text) <= most:
        return text
    return text[:most].decode(errors="ignore").encode() + "…".encode()


class Datagrams(trio.abc.SendStream):
    """A connected datagram socket; each `send_all` is one datagram."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._socket.send(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def aclose(self) -> None:
        self._socket.close()
        await trio.lowlevel.checkpoint()
