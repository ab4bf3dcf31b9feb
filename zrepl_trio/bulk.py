"""Moving a stream's bytes between file descriptors, never through Python where the kernel can.

This is the copying path, good on every system and for streams without an fd.
"""

from __future__ import annotations

import trio

__all__ = ["CHUNK_BYTES", "copy", "raw_fd"]

CHUNK_BYTES = 256 * 1024
"""How much the copying path asks for at once: below 256 KiB Python's share of the CPU shows."""


def raw_fd(stream: object) -> int | None:
    """The fd behind a stream, None when there is none (TLS, memory)."""
    fileno = getattr(stream, "fileno", None)
    return fileno() if callable(fileno) else None


async def copy(reader: trio.abc.ReceiveStream, writer: trio.abc.SendStream) -> int:
    """Move all of `reader` into `writer` up to EOF, closing neither; the count of bytes."""
    total = 0
    while chunk := await reader.receive_some(CHUNK_BYTES):
        await writer.send_all(chunk)
        total += len(chunk)
    return total
