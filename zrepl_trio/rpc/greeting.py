"""The first steps on a fresh connection: both version banners, then the client's label.

Nothing is read beyond the step at hand, since a client may send everything back to back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from zrepl_trio.errors import HandshakeFailed, PeerTimeout, RemoteProtocolError, TransportError
from zrepl_trio.rpc import handshake, label
from zrepl_trio.rpc.label import Label
from zrepl_trio.transport.base import Connection

__all__ = ["OUR_BANNER", "STEP_LIMIT_S", "greet_client", "greet_server"]

OUR_BANNER = handshake.render(
    extensions=[handshake.RANGES, handshake.LISTINGS, handshake.SETTLES, handshake.PLACES]
)
"""What both parts say first."""

STEP_LIMIT_S = 10.0
"""zrepl's limit for the version handshake, and again for the label."""


async def greet_server(connection: Connection, purpose: Label) -> tuple[str, ...]:
    """The client's part; gives the server's extensions. Raises HandshakeFailed, or PeerTimeout and
    TransportError for the link."""
    with _step("the version handshake"):
        extensions = await _exchange_versions(connection)
        await connection.send_all(label.render(purpose))
    return extensions


async def greet_client(connection: Connection) -> tuple[Label, tuple[str, ...]]:
    """The server's part: what the client wants, and its extensions. Raises as `greet_server`."""
    with _step("the version handshake"):
        extensions = await _exchange_versions(connection)
    with _step("the connection's label"):
        purpose = label.parse(await _receive_exactly(connection, label.LABEL_BYTES))
    return purpose, extensions


async def _exchange_versions(connection: Connection) -> tuple[str, ...]:
    # both sides write first: the banner fits any buffer
    await connection.send_all(OUR_BANNER)
    prefix = await _receive_exactly(connection, handshake.PREFIX_BYTES)
    body = await _receive_exactly(connection, handshake.body_length(prefix))
    banner = handshake.parse_body(body)
    handshake.check_version(banner)
    return banner.extensions


async def _receive_exactly(connection: Connection, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = await connection.receive_some(count - len(data))
        if not part:
            # a cut link or a daemon that stops, so not the peer's fault: trying again may help
            raise TransportError(
                f"the peer closed the connection after {len(data)} of {count} bytes"
            )
        data += part
    return bytes(data)


@contextmanager
def _step(what: str) -> Iterator[None]:
    try:
        with trio.fail_after(STEP_LIMIT_S):
            yield
    except trio.TooSlowError:
        raise PeerTimeout(f"{what} took longer than {STEP_LIMIT_S:g} s") from None
    except RemoteProtocolError as error:
        raise HandshakeFailed(f"{what} failed: {error}") from error
    except TransportError as error:
        raise TransportError(f"{what} failed: {error}") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
        raise TransportError(f"the connection broke during {what}: {error}") from error
