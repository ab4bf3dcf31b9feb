from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest
import trio

from tests.monitoring.ports import free_port
from tests.support.resources import cancel_at_each_step, nothing_left_behind, until
from zrepl_trio.config.addresses import HostPort
from zrepl_trio.control.server import MAX_CLIENTS
from zrepl_trio.monitoring import listener
from zrepl_trio.monitoring.listener import serve_metrics
from zrepl_trio.transport.sockets import listening_at


def local(port: int) -> HostPort:
    return HostPort("127.0.0.1", str(port))


@asynccontextmanager
async def serving(port: int) -> AsyncIterator[int]:
    serve = partial(serve_metrics, local(port), lambda: b"up 1\n", freebind=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield port
        nursery.cancel_scope.cancel()


async def get(port: int, path: str) -> bytes:
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with trio.fail_after(10):
            async for chunk in stream:
                answer += chunk
    return answer


async def test_the_page_is_at_metrics_and_nothing_else_is_there() -> None:
    with nothing_left_behind():
        async with serving(free_port()) as port:
            page = await get(port, "/metrics")
            assert page.startswith(b"HTTP/1.1 200 ")
            assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in page
            assert page.endswith(b"\r\n\r\nup 1\n")
            assert (await get(port, "/status")).startswith(b"HTTP/1.1 404 ")


async def test_a_crowd_of_silent_clients_locks_nobody_out() -> None:
    async with serving(free_port()) as port:
        crowd = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(MAX_CLIENTS + 5)]
        assert b"up 1" in await get(port, "/metrics")
        for stream in crowd:
            await stream.aclose()


async def test_taken_at_first_it_is_told_once_and_served_when_it_is_free(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "RETRY_S", 0.01)
    said = ""

    def told() -> str:
        nonlocal said
        said += capsys.readouterr().out
        return said

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port: int = other.getsockname()[1]
        tries = 0
        opened = listening_at

        def counted(
            address: HostPort, *, freebind: bool
        ) -> AbstractAsyncContextManager[list[trio.socket.SocketType]]:
            nonlocal tries
            tries += 1
            return opened(address, freebind=freebind)

        monkeypatch.setattr("zrepl_trio.monitoring.listener.listening_at", counted)
        async with serving(port):  # begins: the daemon goes on without
            await until(lambda: tries > 2)
            other.close()
            await until(lambda: "metrics are served" in told())
            assert b"up 1" in await get(port, "/metrics")
    assert told().count("metrics are not served") == 1
    assert "`ss -ltnp` shows who has it" in told()


async def test_cancelled_at_any_step_it_leaves_no_socket() -> None:
    async def once() -> None:
        async with serving(free_port()) as port:
            await get(port, "/metrics")

    assert await cancel_at_each_step(once, every=3) > 1
