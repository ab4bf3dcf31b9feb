"""A log server over real UDP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import structlog

from tests.logs.test_tcp import outlet
from tests.support.resources import nothing_left_behind
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.addresses import HostPort
from zrepl_trio.config.load import parse_config
from zrepl_trio.logs.outlets import open_logging
from zrepl_trio.logs.udp import MAX_BYTES, connect_udp


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


async def test_each_line_is_a_datagram_and_one_too_long_is_cut(server: socket.socket) -> None:
    port = server.getsockname()[1]
    sections = parse_config(
        "global: {logging: [{type: tcp, level: info, format: logfmt, net: udp, "
        f"address: '127.0.0.1:{port}'}}]}}"
    ).config.global_.logging
    log = structlog.get_logger()
    with nothing_left_behind():
        async with open_logging(sections, SystemClock()):
            log.info("first")
            log.info("second")
            log.info("ä" * MAX_BYTES)
    first, second, long = (server.recv(1 << 16) for _ in range(3))
    assert first.endswith(b" level=info msg=first\n")
    assert second.endswith(b" level=info msg=second\n")
    assert MAX_BYTES - 2 < len(long) < MAX_BYTES + 8
    assert long.decode().endswith("ä…\n")


async def test_the_family_is_the_one_asked_for(server: socket.socket) -> None:
    address = f"127.0.0.1:{server.getsockname()[1]}"
    with nothing_left_behind():
        for net in ("udp", "udp4"):
            async with await connect_udp(outlet(address, net)) as stream:
                await stream.send_all(net.encode())
            assert server.recv(100) == net.encode()
        with pytest.raises(OSError, match=r"."):
            await connect_udp(outlet(address, "udp6"))
        nowhere = outlet(address, "udp").model_copy(update={"address": HostPort("a..b", "514")})
        with pytest.raises(OSError, match="cannot be looked up"):
            await connect_udp(nowhere)


async def test_a_server_that_is_not_there_is_trouble_as_the_host_tells_it(
    server: socket.socket,
) -> None:
    address = f"127.0.0.1:{server.getsockname()[1]}"
    server.close()
    async with await connect_udp(outlet(address, "udp")) as stream:
        await stream.send_all(b"refused")
        with pytest.raises(ConnectionRefusedError):
            await stream.send_all(b"told of it")
