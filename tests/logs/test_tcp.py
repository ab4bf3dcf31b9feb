"""Log servers over real TCP and TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from tests.support.resources import nothing_left_behind
from zrepl_trio.config.addresses import HostPort
from zrepl_trio.config.model import OutletTls, TcpOutlet
from zrepl_trio.logs.delivery import Delivery
from zrepl_trio.logs.tcp import connect_tcp


class Server:
    """Keeps what it is sent; `more` is set with each piece."""

    def __init__(self) -> None:
        self.got = b""
        self.port = 0
        self.more = trio.Event()
        self.scope = trio.CancelScope()

    async def handle(self, stream: trio.abc.Stream) -> None:
        async with stream:
            try:
                while data := await stream.receive_some():
                    self.got += data
                    self.more.set()
            except trio.BrokenResourceError:
                pass

    async def until(self, text: bytes) -> None:
        with trio.fail_after(5):
            while text not in self.got:
                self.more = trio.Event()
                await self.more.wait()


@asynccontextmanager
async def serving(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        server.port = listener.socket.getsockname()[1]
        served = listener if tls is None else trio.SSLListener(listener, tls)
        nursery.start_soon(partial(trio.serve_listeners, server.handle, [served]))
        yield server
        nursery.cancel_scope.cancel()


def outlet(address: str, net: str = "tcp", tls: OutletTls | None = None) -> TcpOutlet:
    return TcpOutlet(
        type="tcp",
        level="info",
        format="human",
        address=HostPort.parse(address),
        net=net,
        retry_interval=5.0,
        tls=tls,
    )


def delivery(section: TcpOutlet, troubles: list[str]) -> Delivery:
    return Delivery(
        partial(connect_tcp, section),
        retry_s=0.1,
        at_once_bytes=1000,
        trouble=troubles.append,
        lost=lambda _: b"",
    )


async def test_lines_arrive_and_the_last_one_too() -> None:
    troubles: list[str] = []
    with nothing_left_behind():
        async with serving() as server:
            sending = delivery(outlet(f":{server.port}", "tcp4"), troubles)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sending.run)
                sending.queue.put(b"first\n")
                await server.until(b"first\n")
                sending.queue.put(b"last\n")
                sending.close()
            await server.until(b"first\nlast\n")
    assert troubles == []


async def test_a_server_that_comes_back_gets_what_was_logged_meanwhile() -> None:
    troubles: list[str] = []
    async with trio.open_nursery() as nursery:
        async with serving() as first:
            sending = delivery(outlet(f"127.0.0.1:{first.port}"), troubles)
            nursery.start_soon(sending.run)
            sending.queue.put(b"a\n")
            await first.until(b"a\n")
        while not troubles:  # noqa: ASYNC110
            await trio.sleep(0.01)
        sending.queue.put(b"b\n")
        second = Server()
        (listener,) = await trio.open_tcp_listeners(first.port, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, second.handle, [listener]))
        await second.until(b"b\n")
        assert second.got == b"b\n"
        nursery.cancel_scope.cancel()


async def test_the_network_is_the_one_asked_for() -> None:
    async with serving("127.0.0.1") as server:
        async with await connect_tcp(outlet(f"localhost:{server.port}", "tcp4")):
            pass
        with pytest.raises(OSError, match="amily"):
            await connect_tcp(outlet(f"127.0.0.1:{server.port}", "tcp6"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> OutletTls:
    issued = authority.issue_cert("client.example.com")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return OutletTls(
        ca=f"{tmp_path}/ca.pem", cert=f"{tmp_path}/cert.pem", key=f"{tmp_path}/key.pem"
    )


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    """Of a server that takes clients of this authority only."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_over_tls_both_sides_show_a_certificate(
    authority: trustme.CA, files: OutletTls
) -> None:
    troubles: list[str] = []
    with nothing_left_behind():
        async with serving(tls=server_context(authority)) as server:
            sending = delivery(outlet(f"localhost:{server.port}", tls=files), troubles)
            sending.queue.put(b"secret\n")
            sending.close()
            await sending.run()
            await server.until(b"secret\n")
    assert troubles == []


async def first_trouble(section: TcpOutlet) -> str:
    troubles: list[str] = []
    sending = delivery(section, troubles)
    sending.queue.put(b"secret\n")
    sending.close()
    with trio.fail_after(5):
        await sending.run()
    return troubles[0]


async def test_a_server_that_cannot_be_trusted_gets_nothing(
    authority: trustme.CA, files: OutletTls
) -> None:
    with nothing_left_behind():
        async with serving(tls=server_context(authority, "other.example.com")) as server:
            section = outlet(f"localhost:{server.port}", tls=files)
            assert "its certificate is not accepted: Hostname mismatch" in await first_trouble(
                section
            )
        async with serving(tls=server_context(trustme.CA())) as server:
            section = outlet(f"localhost:{server.port}", tls=files)
            assert "its certificate is not accepted: self-signed" in await first_trouble(section)
    assert server.got == b""


async def test_files_that_cannot_be_read_are_named(files: OutletTls) -> None:
    Path(files.key).unlink()
    told = await first_trouble(outlet("localhost:1", tls=files))
    assert f"cannot use {files.ca}, {files.cert} and {files.key}: " in told


async def test_an_absent_server_or_name_is_told_in_plain_words() -> None:
    assert (await first_trouble(outlet("127.0.0.1:1"))).endswith(": Connection refused")
    assert "ame" in await first_trouble(outlet("nowhere.invalid:1"))
