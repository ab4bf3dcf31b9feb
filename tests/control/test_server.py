from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.resources import nothing_left_behind
from zrepl_trio.control import server
from zrepl_trio.control.server import MAX_BODY_BYTES, MAX_CLIENTS, BadRequest, serve_http
from zrepl_trio.control.socket import open_control_listener


def echo(body: bytes) -> object:
    return {"got": body.decode()}


def refuse(_body: bytes) -> object:
    raise BadRequest("not like that")


def fail(_body: bytes) -> object:
    raise RuntimeError("broken inside")


def huge(_body: bytes) -> object:
    return "x" * 8_000_000


ROUTES = {"/echo": echo, "/refuse": refuse, "/fail": fail, "/huge": huge}


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[str]:
    async with open_control_listener(str(path / "s")) as listener, trio.open_nursery() as nursery:
        await nursery.start(serve_http, [listener], ROUTES)
        yield str(path / "s")
        nursery.cancel_scope.cancel()


async def talk(path: str, data: bytes) -> bytes:
    """All that is answered to `data` up to the end."""
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(data)
        return await rest(stream)


async def rest(stream: trio.SocketStream) -> bytes:
    answer = b""
    with trio.fail_after(10):
        while chunk := await stream.receive_some():
            answer += chunk
    return answer


def parsed(raw: bytes) -> tuple[int, bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(
        h11.Request(method="POST", target="/", headers=[("Host", "unix"), ("Connection", "close")])
    )
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    return response.status_code, body


def post(target: str, body: bytes = b"") -> bytes:
    return (
        f"POST {target} HTTP/1.1\r\nHost: unix\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def test_a_handler_answers_json(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        status, body = parsed(await talk(path, post("/echo", b"hello")))
    assert status == 200
    assert json.loads(body) == {"got": "hello"}


async def test_any_method_is_accepted(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        status, _ = parsed(await talk(path, b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert status == 200


async def test_a_head_request_gets_the_head_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        head = await talk(path, b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"\r\n\r\n")
        assert parsed(await talk(path, post("/echo")))[0] == 200


async def test_a_bug_of_ours_costs_one_client_and_not_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    async with served(tmp_path) as path:
        with monkeypatch.context() as broken:
            broken.setattr(server, "_respond", fails)
            assert await talk(path, post("/echo")) == b""
        assert parsed(await talk(path, post("/echo")))[0] == 200


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (post("/refuse"), 400, b"not like that"),
        (post("/fail"), 500, b"broken inside"),
        (post("/none"), 404, b"/echo"),
        (b"NONSENSE\r\n\r\n", 400, b""),
        (b"CONNECT /echo HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"no proxy"),
        (post("/echo", b"x" * (MAX_BODY_BYTES + 1)), 413, b"too long"),
        (b"GET /echo HTTP/1.1\r\n" + b"A: " + b"b" * 40000, 431, b""),
    ],
    ids=[
        "bad-request",
        "handler-fails",
        "unknown-path",
        "not-http",
        "connect",
        "long-body",
        "long-header",
    ],
)
async def test_a_bad_request_gets_its_status_and_harms_nobody(
    tmp_path: Path, data: bytes, status: int, text: bytes
) -> None:
    async with served(tmp_path) as path:
        got, body = parsed(await talk(path, data))
        assert got == status
        assert text in body
        assert parsed(await talk(path, post("/echo")))[0] == 200


async def test_expect_100_continue_is_granted(tmp_path: Path) -> None:
    async with served(tmp_path) as path, await trio.open_unix_socket(path) as stream:
        await stream.send_all(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert b"100" in await stream.receive_some()
        await stream.send_all(b"ok")
        assert b'"ok"' in await rest(stream)


async def test_a_silent_client_is_dropped_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READ_S", 0.05)
    async with served(tmp_path) as path:
        assert await talk(path, b"POST /ec") == b""


async def test_a_client_that_never_reads_neither_blocks_others_nor_the_end(tmp_path: Path) -> None:
    with nothing_left_behind():
        async with served(tmp_path) as path:
            stuck = await trio.open_unix_socket(path)
            await stuck.send_all(post("/huge"))
            assert parsed(await talk(path, post("/echo")))[0] == 200
            with trio.fail_after(1):
                await trio.lowlevel.checkpoint()
        await stuck.aclose()


async def test_a_crowd_of_silent_clients_locks_nobody_out(tmp_path: Path) -> None:
    with nothing_left_behind():
        async with served(tmp_path) as path:
            crowd = [await trio.open_unix_socket(path) for _ in range(MAX_CLIENTS)]
            assert parsed(await talk(path, post("/echo")))[0] == 200
            assert await crowd[0].receive_some() == b""
            for stream in crowd:
                await stream.aclose()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200))
def test_garbage_ends_its_own_connection_only(tmp_path: Path, garbage: bytes) -> None:
    async def attempt() -> None:
        directory = tmp_path / os.urandom(4).hex()
        directory.mkdir()
        async with served(directory) as path:
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                await rest(stream)
            assert parsed(await talk(path, post("/echo")))[0] == 200

    trio.run(attempt)
