"""Serving one accepted connection, whatever its client makes of it."""

from __future__ import annotations

import structlog
import trio

from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import RemoteProtocolError, TransportError
from zrepl_trio.rpc.greeting import greet_client
from zrepl_trio.rpc.handshake import SETTLES
from zrepl_trio.rpc.heartbeat import WORK_LIMIT_S, work_limit
from zrepl_trio.rpc.label import Label
from zrepl_trio.rpc.serve_control import serve_control
from zrepl_trio.rpc.serve_data import serve_data
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.transport.base import Connection

__all__ = ["serve_connection"]

_CLOSE_LIMIT_S = 5.0


async def serve_connection(
    connection: Connection,
    endpoint: Endpoint,
    *,
    work_limit_s: float = WORK_LIMIT_S,
    shutdowns: ShutdownTotals | None = None,
) -> None:
    """Greet the client, serve what it asks for, close the connection. `shutdowns` counts the ends of
    those that carried data. A zrepl that lives but does nothing is waited for during `work_limit_s`.

    What the client does wrong, and a link that fails, ends this connection with one warning in
    the log, and raises nothing. Handlers' errors are told to the client.
    """
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(
        client_identity=connection.client_identity
    )
    stage = "greeting"
    try:
        purpose, extensions = await greet_client(connection)
        stage = purpose.name.lower()
        settles = SETTLES in extensions
        if purpose is Label.CONTROL:
            await serve_control(connection, endpoint, log, settles=settles)
        else:
            await serve_data(
                connection,
                endpoint,
                log,
                settles=settles,
                work_limit_s=work_limit(extensions, work_limit_s),
                shutdowns=shutdowns,
            )
    except (TransportError, RemoteProtocolError) as error:
        log.warning("connection ended", stage=stage, reason=str(error))
    finally:
        with trio.move_on_after(_CLOSE_LIMIT_S, shield=True):
            await connection.aclose()
