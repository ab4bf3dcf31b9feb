"""Where Prometheus asks: `GET /metrics`, on the daemon's own HTTP server."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from zrepl_trio.config.addresses import HostPort
from zrepl_trio.control.server import Document, serve_http
from zrepl_trio.errors import Refused
from zrepl_trio.transport.sockets import listening_at

__all__ = ["serve_metrics"]

log = structlog.get_logger()

RETRY_S = 30.0
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def serve_metrics(
    address: HostPort,
    page: Callable[[], bytes],
    *,
    freebind: bool,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `page` until cancelled. `started` once it is served, or could not be at first.

    An address that cannot be had is one error in the log, and tried again: the jobs matter more
    than who looks at them.
    """
    routes = {"/metrics": lambda _body: Document(_CONTENT_TYPE, page())}
    said = ""
    while True:
        try:
            async with listening_at(address, freebind=freebind) as sockets:
                log.info("metrics are served", listen=str(address))
                listeners = [trio.SocketListener(sock) for sock in sockets]
                await serve_http(listeners, routes, name="metrics", task_status=task_status)
        except Refused as refusal:
            if str(refusal) != said:
                said = str(refusal)
                log.error("metrics are not served", err=said, next_try_s=RETRY_S)  # noqa: TRY400 - no bug
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(RETRY_S)
