"""HTTP/1.1 on the control socket, and for metrics: one request a connection, every step under a deadline.

h11 is driven directly: of a ready-made ASGI server we would use three routes, and the one for
trio sends under an unbounded shield, so that a client that stops reading could keep the
daemon from stopping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11
import structlog
import trio

__all__ = ["MAX_BODY_BYTES", "MAX_CLIENTS", "BadRequest", "Document", "Handler", "serve_http"]

log = structlog.get_logger()

READ_S = 5.0
WRITE_S = 5.0
MAX_BODY_BYTES = 64 * 1024
MAX_CLIENTS = 64
"""Beyond so many at once the oldest is dropped: who holds connections locks nobody out."""

Handler = Callable[[bytes], object]
"""Takes a request's body and gives what is answered: a Document, or what JSON can say; never blocks."""


@dataclass(frozen=True, slots=True)
class Document:
    """An answer that is not JSON."""

    content_type: str
    body: bytes


class BadRequest(Exception):
    """The request cannot be understood: status 400 with this text."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


def _text(status: HTTPStatus, text: str) -> _Answer:
    return _Answer(status, "text/plain; charset=utf-8", text.encode("utf-8", "replace") + b"\n")


def _answer(routes: Mapping[str, Handler], target: bytes, body: bytes) -> _Answer:
    path = target.decode("ascii", "replace").partition("?")[0]
    handler = routes.get(path)
    if handler is None:
        return _text(HTTPStatus.NOT_FOUND, f"no such path; there are {', '.join(routes)}")
    try:
        answer = handler(body)
        if not isinstance(answer, Document):
            answer = Document("application/json", json.dumps(answer).encode())
    except BadRequest as error:
        return _text(HTTPStatus.BAD_REQUEST, str(error))
    except Exception as error:  # noqa: BLE001 - one request must not end the daemon; zrepl answers 500
        return _text(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    return _Answer(HTTPStatus.OK, answer.content_type, answer.body)


async def _request(
    connection: h11.Connection, stream: trio.SocketStream
) -> tuple[h11.Request, bytes] | None:
    """The client's request and body; None when it left."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                # A client that waits to be told so would wait for our deadline.
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await stream.send_all(connection.send(go_on) or b"")
                connection.receive_data(await stream.receive_some())
            case h11.Request() as request:
                pass
            case h11.Data(data=data):
                body += data
                if len(body) > MAX_BODY_BYTES:
                    raise h11.RemoteProtocolError("body too long", error_status_hint=413)
            case h11.EndOfMessage() if request is not None:
                return request, bytes(body)
            case _:
                return None


async def _respond(
    connection: h11.Connection, stream: trio.SocketStream, answer: _Answer, method: bytes
) -> None:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
    ]
    response = h11.Response(status_code=answer.status, reason=answer.status.phrase, headers=headers)
    head = connection.send(response) or b""
    # The answer to a HEAD tells the length of a body that does not follow.
    body = b"" if method == b"HEAD" else connection.send(h11.Data(data=answer.body)) or b""
    await stream.send_all(head + body)


async def _converse(routes: Mapping[str, Handler], stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
    method = b""
    try:
        with trio.fail_after(READ_S):
            received = await _request(connection, stream)
        if received is None:
            return
        request, body = received
        method = request.method
        if method == b"CONNECT":
            answer = _text(HTTPStatus.METHOD_NOT_ALLOWED, "this is no proxy")
        else:
            answer = _answer(routes, request.target, body)
    except h11.RemoteProtocolError as error:
        if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        answer = _text(HTTPStatus(error.error_status_hint), str(error))
    with trio.fail_after(WRITE_S):
        await _respond(connection, stream, answer, method)


async def serve_http(
    listeners: Sequence[trio.SocketListener],
    routes: Mapping[str, Handler],
    *,
    name: str = "control socket",
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on `listeners` until cancelled; closes them, and every connection, then.
    `name` is what the log calls them."""
    clients: dict[trio.CancelScope, None] = {}

    async def handle(stream: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            clients[scope] = None
            if len(clients) > MAX_CLIENTS:
                oldest = next(iter(clients))
                del clients[oldest]
                oldest.cancel()
                log.warning("too many clients; the oldest is dropped", server=name)
            try:
                await _converse(routes, stream)
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                log.debug("client lost", server=name, err=error)
            except Exception:  # one client must not end the daemon
                log.exception("client failed by a bug", server=name)
            finally:
                clients.pop(scope, None)

    task_status.started()
    await trio.serve_listeners(handle, list(listeners))
