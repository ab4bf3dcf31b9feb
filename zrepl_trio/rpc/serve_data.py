"""The serving side of one data connection: one request, handed to an `Endpoint`."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import structlog
import trio

from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import RemoteProtocolError, TransportError, ZreplError, leaves
from zrepl_trio.rpc import machine, messages
from zrepl_trio.rpc.background import open_background
from zrepl_trio.rpc.dataconn import DataConn, open_dataconn
from zrepl_trio.rpc.machine import RECV, Role
from zrepl_trio.rpc.messages import InvalidContent
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.rpc.streams import InboundStream, send_stream
from zrepl_trio.transport.base import Connection

__all__ = ["INTERNAL_ERROR", "log_failure", "serve_data", "settle_at_the_end"]

INTERNAL_ERROR = "internal error on the serving side; its log has the details"
"""All that a peer is told of an error that is not meant for it."""

_SETTLE_LIMIT_S = 10.0

_UNKNOWN = "requested endpoint does not exist"


async def serve_data(
    connection: Connection,
    endpoint: Endpoint,
    log: structlog.typing.FilteringBoundLogger,
    *,
    settles: bool = False,
    work_limit_s: float = math.inf,
    shutdowns: ShutdownTotals | None = None,
) -> None:
    """Serve one request, then shut the connection down, to be counted in `shutdowns`. For a client
    that never `settles`, nothing is put off. One that lives but neither sends nor takes anything for
    `work_limit_s` is given up.

    A handler's error is told to the peer and logged here. Raises TransportError when the link
    failed and RemoteProtocolError when the peer broke the protocol.
    """
    opened = open_dataconn(connection, Role.SERVER, work_limit_s=work_limit_s, shutdowns=shutdowns)
    async with opened as data:
        name, body = await data.receive_request()
        log = log.bind(request=name[:80])
        refusal: str | None = None
        fault: ZreplError | None = None
        try:
            async with open_background() as nursery:
                if name != RECV:
                    # nothing more is to come: notice a client that leaves or falls silent
                    nursery.start_soon(data.wait_for_end)
                await _handle(data, endpoint, name, body, log, settles=settles)
        except (InvalidContent, TransportError) as error:
            refusal, fault = str(error), error
        except RemoteProtocolError:
            raise
        except ZreplError as error:
            refusal = str(error)
            log.warning("request failed", error=refusal)
        except Exception as error:  # noqa: BLE001 - the handler wrapper: one request, not the daemon
            refusal = log_failure(log, error)
        if refusal is not None:
            await _refuse(data, refusal)
        if fault is not None:
            raise fault


async def _handle(
    data: DataConn,
    endpoint: Endpoint,
    name: str,
    body: bytes,
    log: structlog.typing.FilteringBoundLogger,
    *,
    settles: bool,
) -> None:
    match name:
        case machine.PING:
            echo = await endpoint.ping(messages.decode_ping(body))
            await data.send_answer(messages.encode_ping_echo(echo))
        case machine.SEND:
            request = replace(messages.decode_send(body), at_once=not settles)
            async with endpoint.send(request) as reply:
                answer = messages.encode_send_result(
                    used_resume_token=reply.used_resume_token, expected_size=reply.expected_size
                )
                await data.send_answer(answer)
                await send_stream(data, reply.stream)
        case machine.RECV:
            answered = False
            try:
                await endpoint.receive(messages.decode_receive(body), InboundStream(data))
                if not settles:
                    await endpoint.settle()
                await data.send_answer(messages.encode_empty())
                answered = True
            finally:
                if not answered:
                    # the client may be gone, and would not have it settled
                    await settle_at_the_end(endpoint, log)  # noqa: ASYNC102 - it shields itself
        case _:
            raise InvalidContent(_UNKNOWN)


async def settle_at_the_end(endpoint: Endpoint, log: structlog.typing.FilteringBoundLogger) -> None:
    """Do what was put off, also when cancelled, for some seconds; what goes wrong is only logged."""
    with trio.move_on_after(_SETTLE_LIMIT_S, shield=True):
        try:
            await endpoint.settle()
        except ZreplError as error:
            log.warning("cannot do what was put off", error=str(error))


async def _refuse(data: DataConn, text: str) -> None:
    if data.can_refuse:
        with suppress(TransportError):
            await data.send_refusal(text)


def log_failure(log: structlog.typing.FilteringBoundLogger, error: Exception) -> str:
    """Log what a handler raised besides a ZreplError; the text for the peer.

    A group of nothing but ZreplErrors is their texts; all else is a bug, and logged as one.
    """
    if not isinstance(error, ExceptionGroup) or error.split(ZreplError)[1] is not None:
        log.error("request failed by a bug", exc_info=error)
        return INTERNAL_ERROR
    text = "\n".join(str(leaf) for leaf in leaves(error))
    log.warning("request failed", error=text)
    return text
