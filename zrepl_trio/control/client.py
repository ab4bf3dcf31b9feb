"""Asking the running daemon; every way in which it can be unreachable has its own sentence."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from zrepl_trio.control.api import SignalRequest, Status, Version
from zrepl_trio.control.faults import DaemonDown, DaemonRefused, DaemonUnreachable

__all__ = ["ControlClient", "open_control_client"]

ANSWER_S = 30.0

_M = TypeVar("_M", bound=BaseModel)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__


def _unreachable(path: str, error: httpx.TransportError) -> DaemonUnreachable:
    numbers = {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}
    if numbers & {errno.EACCES, errno.EPERM}:
        text = f"no permission for the control socket {path}: ask as the daemon's user (or root)"
    elif numbers & {errno.ENOENT, errno.ENOTDIR}:
        return DaemonDown(
            f"no daemon listens on {path}: start it with `zrepl-trio run`, "
            "or name the config it runs with by --config"
        )
    elif errno.ECONNREFUSED in numbers:
        return DaemonDown(f"no daemon listens on {path} any more: start it with `zrepl-trio run`")
    elif isinstance(error, httpx.TimeoutException):
        text = f"the daemon on {path} gives no answer within {ANSWER_S:.0f} s"
    else:
        text = f"cannot ask the daemon on {path}: {error}"
    return DaemonUnreachable(text)


class ControlClient:
    """Asks one daemon; every call raises DaemonUnreachable or DaemonRefused."""

    def __init__(self, client: httpx.AsyncClient, path: str) -> None:
        self._client = client
        self._path = path

    async def _ask(self, target: str, body: bytes = b"") -> bytes:
        try:
            answer = await self._client.post(target, content=body)
        except httpx.TransportError as error:
            raise _unreachable(self._path, error) from error
        if answer.status_code != httpx.codes.OK:
            raise DaemonRefused(answer.text.strip())
        return answer.content

    async def status_bytes(self) -> bytes:
        """The daemon's status as it sent it."""
        return await self._ask("/status")

    async def status(self) -> Status:
        """The daemon's status."""
        return _parsed(Status, await self._ask("/status"))

    async def version(self) -> Version:
        """The daemon's version."""
        return _parsed(Version, await self._ask("/version"))

    async def signal(
        self,
        job: str,
        operation: str,
        resolve: Mapping[str, str] | None = None,
        *,
        destroy_foreign: bool = False,
    ) -> None:
        """Send `wakeup` or `reset` to a job; DaemonRefused carries the reason of a no. The rest as in
        SignalRequest."""
        request = SignalRequest(
            name=job, op=operation, resolve=resolve or {}, destroy_foreign=destroy_foreign
        )
        await self._ask("/signal", request.model_dump_json(by_alias=True).encode())


def _parsed(model: type[_M], raw: bytes) -> _M:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise DaemonRefused(f"the daemon's answer makes no sense: {error}") from error


@asynccontextmanager
async def open_control_client(path: str) -> AsyncIterator[ControlClient]:
    """A client of the daemon whose control socket is at `path`; connects at its first question."""
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://unix", timeout=ANSWER_S, trust_env=False
    ) as client:
        yield ControlClient(client, path)
