"""Hosts that cannot be looked up, and connections that fail: an OSError each, in plain words."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.support.resources import nothing_left_behind
from zrepl_trio.dialling import addresses_of, open_tcp, why

NO_NAMES = ["a..b", ".x", "a" * 64 + ".com", "é" * 60]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("host", NO_NAMES)
async def test_a_name_that_none_can_have_is_an_error_of_the_system(host: str) -> None:
    with nothing_left_behind():
        with pytest.raises(OSError, match="cannot be looked up") as dialled:
            await open_tcp(host, 1)
        with pytest.raises(OSError, match="cannot be looked up"):
            await addresses_of(host, 1, kind=socket.SOCK_DGRAM)
    assert why(dialled.value) == str(dialled.value)
    assert repr(host) in why(dialled.value)


async def test_only_the_family_that_is_asked_for_is_dialled() -> None:
    async def accept(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, accept, [listener])
        port = listener.socket.getsockname()[1]
        for net in ("tcp", "tcp4"):
            async with await open_tcp("127.0.0.1", port, net) as stream:
                assert stream.socket.family == socket.AF_INET
        with pytest.raises(OSError, match="amily") as refused:
            await open_tcp("127.0.0.1", port, "tcp6")
        assert "local_address" not in why(refused.value)
        nursery.cancel_scope.cancel()


async def test_why_a_connection_failed_is_told_once(closed_port: int) -> None:
    for net in ("tcp", "tcp4"):
        with pytest.raises(OSError, match="all attempts") as refused:
            await open_tcp("localhost", closed_port, net)
        assert why(refused.value).count("Connection refused") == 1
        assert "local_address" not in why(refused.value)
