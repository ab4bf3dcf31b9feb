"""tcp, tls and local against good clients, strangers and silent ones."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing
import trustme
from structlog.typing import EventDict

from tests.support.resources import cancel_at_each_step, nothing_left_behind, until
from zrepl_trio.config.addresses import HostPort
from zrepl_trio.errors import ConnectFailed, Refused
from zrepl_trio.transport.base import Connecter, Connection, Listener
from zrepl_trio.transport.clientmap import ClientMap
from zrepl_trio.transport.clients import accept_some
from zrepl_trio.transport.local import LocalConnecter, LocalListener, LocalSwitch
from zrepl_trio.transport.tcp import TcpConnecter, TcpListener
from zrepl_trio.transport.tls import Certificates, TlsConnecter, TlsListener
from zrepl_trio.zfs.names import check_identity

ID = check_identity("client-1")
Handler = Callable[[Connection], Awaitable[None]]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def address() -> HostPort:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return HostPort("127.0.0.1", str(server.getsockname()[1]))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


Issue = Callable[..., Certificates]


@pytest.fixture
def issue(authority: trustme.CA, tmp_path: Path) -> Issue:
    def make(name: str, signed_by: trustme.CA = authority) -> Certificates:
        made = Certificates(
            ca=str(tmp_path / "ca.pem"),
            cert=str(tmp_path / f"{name}.pem"),
            key=str(tmp_path / f"{name}.key"),
        )
        authority.cert_pem.write_to_path(made.ca)
        issued = signed_by.issue_cert(name, common_name=name)
        issued.private_key_pem.write_to_path(made.key)
        issued.cert_chain_pems[0].write_to_path(made.cert)
        return made

    return make


@asynccontextmanager
async def serving(listener: Listener, handler: Handler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, handler)
        yield
        nursery.cancel_scope.cancel()


async def echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(data)
    await connection.send_eof()


@pytest.fixture(params=["tcp", "tls", "local"])
def link(
    request: pytest.FixtureRequest, address: HostPort, issue: Issue
) -> tuple[Listener, Connecter]:
    match request.param:
        case "tcp":
            clients = ClientMap.of({"127.0.0.1": ID})
            return TcpListener(address, clients), TcpConnecter(address, dial_timeout_s=5)
        case "tls":
            return (
                TlsListener(address, issue("server"), [ID], handshake_timeout_s=5),
                TlsConnecter(address, issue(ID), server_cn="server", dial_timeout_s=5),
            )
        case _:
            switch = LocalSwitch()
            return (
                LocalListener(switch, "here"),
                LocalConnecter(switch, "here", ID, dial_timeout_s=5),
            )


Link = tuple[Listener, Connecter]


async def test_both_directions_and_half_close(link: Link) -> None:
    listener, connecter = link
    seen: list[str] = []

    async def handler(connection: Connection) -> None:
        seen.append(connection.client_identity)
        await echo(connection)

    sent = bytes(range(256)) * 5000
    got = bytearray()
    async with serving(listener, handler), connecter.connect() as connection:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await connection.send_all(sent)
                await connection.send_eof()

            nursery.start_soon(send)
            while data := await connection.receive_some():
                got += data
        with pytest.raises(trio.ClosedResourceError):
            await connection.send_all(b"x")
    assert got == sent
    assert seen == [ID]


async def test_a_failing_handler_ends_its_own_connection_only(
    link: Link, logs: list[EventDict]
) -> None:
    listener, connecter = link
    calls = 0

    async def handler(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await connection.send_all(b"x")
            raise RuntimeError("a bug")
        await echo(connection)

    async with serving(listener, handler):
        async with connecter.connect() as connection:
            with trio.fail_after(5):
                assert await connection.receive_some() == b"x"
                assert await connection.receive_some() == b""
        async with connecter.connect() as connection:
            await connection.send_all(b"hello")
            assert await connection.receive_some() == b"hello"
    assert [entry["event"] for entry in logs] == ["connection failed by a bug"]


async def test_cancelled_at_any_step_it_leaves_nothing(link: Link) -> None:
    listener, connecter = link

    async def use() -> None:
        async with serving(listener, echo), connecter.connect() as connection:
            await connection.send_all(b"hello")
            await connection.receive_some()
            await connection.send_eof()

    await cancel_at_each_step(use)


async def test_nobody_there_is_said_within_the_limit(link: Link) -> None:
    _listener, connecter = link
    start = trio.current_time()
    with pytest.raises(ConnectFailed, match=r"refused|no job of this daemon"):
        async with connecter.connect():
            pass
    assert trio.current_time() - start < 6


async def test_a_taken_address_is_refused_by_name(address: HostPort) -> None:
    listener = TcpListener(address, ClientMap.of({"127.0.0.1": ID}))
    async with serving(listener, echo):
        with pytest.RaisesGroup(
            pytest.RaisesExc(Refused, match=r"can't listen on 127.*in use.*ss")
        ):
            async with serving(listener, echo):
                pass


async def test_an_unmapped_tcp_client_is_cut_off_and_named(
    address: HostPort, logs: list[EventDict]
) -> None:
    listener = TcpListener(address, ClientMap.of({"10.0.0.1": ID}))
    stranger = TcpConnecter(address, dial_timeout_s=5)
    async with serving(listener, echo), stranger.connect() as connection:
        with trio.fail_after(5):
            assert await connection.receive_some() == b""
    (entry,) = logs
    assert entry["event"] == "client refused"
    assert "127.0.0.1" in entry["reason"]
    assert "clients" in entry["reason"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
@pytest.mark.parametrize("wildcard", ["", "0.0.0.0", "::"])
async def test_a_wildcard_means_both_families(address: HostPort, wildcard: str) -> None:
    everywhere = HostPort(wildcard, address.port)
    listener = TcpListener(everywhere, ClientMap.of({"127.0.0.1": ID, "::1": ID}))
    async with serving(listener, echo):
        for host in ("127.0.0.1", "::1"):
            there = HostPort(host, address.port)
            async with TcpConnecter(there, dial_timeout_s=5).connect() as connection:
                await connection.send_all(b"hello")
                assert await connection.receive_some() == b"hello"


async def refusal_of(connecter: Connecter) -> str:
    """What the client hears: at the handshake, or with TLS 1.3 at its first read."""
    try:
        async with connecter.connect() as connection:
            with trio.fail_after(5):
                await connection.send_all(b"hello")
                answer = await connection.receive_some()
            return "closed" if not answer else answer.decode()
    except (ConnectFailed, trio.BrokenResourceError) as error:
        return str(error)


async def refusal_logged(logs: list[EventDict]) -> str:
    """Why the listener refused a client, taken from the log once it is there; other lines, such as
    that of certificates written anew, are no answer."""
    await until(lambda: any("reason" in entry for entry in logs))
    (reason,) = [entry["reason"] for entry in logs if "reason" in entry]
    logs.clear()
    return str(reason)


async def test_tls_refuses_strangers_and_says_why(
    address: HostPort, issue: Issue, logs: list[EventDict]
) -> None:
    listener = TlsListener(address, issue("server"), [ID], handshake_timeout_s=5)

    def client(certificates: Certificates, server: str = "server") -> TlsConnecter:
        return TlsConnecter(address, certificates, server_cn=server, dial_timeout_s=5)

    async with serving(listener, echo):
        assert await refusal_of(client(issue(ID))) == "hello"

        heard = await refusal_of(client(issue("stranger", trustme.CA())))
        assert "does not accept our certificate" in heard
        assert "stranger.pem" in heard
        assert "no TLS: " in await refusal_logged(logs)

        assert "`client_cns`" in await refusal_of(client(issue("not-in-the-list")))
        reason = await refusal_logged(logs)
        assert "'not-in-the-list'" in reason
        assert "client_cns" in reason

        heard = await refusal_of(client(issue(ID), server="another"))
        assert "another" in heard
        assert "subjectAltNames" in heard
        await refusal_logged(logs)

        other_ca = issue(ID)
        other = trustme.CA()
        other.cert_pem.write_to_path(f"{other_ca.ca}.other")
        heard = await refusal_of(client(replace(other_ca, ca=f"{other_ca.ca}.other")))
        assert "no TLS with 127.0.0.1" in heard
        assert "self-signed" in heard or "unable to get" in heard
        await refusal_logged(logs)

        # plain text on a TLS port
        async with TcpConnecter(address, dial_timeout_s=5).connect() as plain:
            await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert "http request" in await refusal_logged(logs)
        assert await refusal_of(client(issue(ID))) == "hello"


async def test_an_expired_client_certificate_is_refused(
    address: HostPort, issue: Issue, authority: trustme.CA, logs: list[EventDict]
) -> None:
    listener = TlsListener(address, issue("server"), [ID], handshake_timeout_s=5)
    ours = issue(ID)
    old = authority.issue_cert(ID, common_name=ID, not_after=datetime(2020, 1, 1, tzinfo=UTC))
    old.private_key_pem.write_to_path(ours.key)
    old.cert_chain_pems[0].write_to_path(ours.cert)
    connecter = TlsConnecter(address, ours, server_cn="server", dial_timeout_s=5)
    async with serving(listener, echo):
        assert "does not accept our certificate" in await refusal_of(connecter)
        assert "expired" in await refusal_logged(logs)


async def test_a_silent_tls_client_delays_nobody_and_is_dropped(
    address: HostPort, issue: Issue, logs: list[EventDict]
) -> None:
    listener = TlsListener(address, issue("server"), [ID], handshake_timeout_s=0.2)
    connecter = TlsConnecter(address, issue(ID), server_cn="server", dial_timeout_s=5)
    stranger = TcpConnecter(address, dial_timeout_s=5)
    async with serving(listener, echo), stranger.connect() as silent:
        assert await refusal_of(connecter) == "hello"
        with trio.fail_after(5):
            assert await silent.receive_some() == b""
    assert "did not end the TLS handshake within 0.2 s" in logs[0]["reason"]


async def test_renewed_certificates_are_used_without_a_restart(
    address: HostPort, issue: Issue, logs: list[EventDict]
) -> None:
    certificates = issue("server")
    listener = TlsListener(address, certificates, [ID], handshake_timeout_s=5)
    connecter = TlsConnecter(address, issue(ID), server_cn="server", dial_timeout_s=5)

    async with serving(listener, echo):
        assert await refusal_of(connecter) == "hello"
        Path(certificates.cert).write_text("broken in the middle of a renewal")
        assert await refusal_of(connecter) == "hello"
        assert logs[-1]["event"] == "changed certificates cannot be used, the old ones stay"
        issue("server")
        assert await refusal_of(connecter) == "hello"
        assert logs[-1]["event"] == "changed certificates are in use"


def test_unusable_certificates_are_named(tmp_path: Path) -> None:
    missing = Certificates(ca=str(tmp_path / "ca"), cert="/no/cert", key="/no/key")
    with pytest.raises(Refused, match=rf"cannot use {tmp_path}/ca for TLS: .*No such file"):
        missing.context(serving=True)


async def test_a_name_is_served_once(nursery: trio.Nursery) -> None:
    switch = LocalSwitch()
    await nursery.start(LocalListener(switch, "here").serve, echo)
    with pytest.raises(Refused, match="'here' is served by another job"):
        await LocalListener(switch, "here").serve(echo)
    nursery.cancel_scope.cancel()


async def test_a_local_client_waits_for_a_job_that_starts_later(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    switch = LocalSwitch()
    connecter = LocalConnecter(switch, "here", ID, dial_timeout_s=2)

    async def later() -> None:
        await trio.sleep(1)
        nursery.start_soon(LocalListener(switch, "here").serve, echo)

    nursery.start_soon(later)
    async with connecter.connect() as connection:
        await connection.send_all(b"hello")
        assert await connection.receive_some() == b"hello"
    nursery.cancel_scope.cancel()


async def test_a_crowd_is_taken_at_once_in_its_order() -> None:
    with trio.socket.from_stdlib_socket(
        socket.create_server(("127.0.0.1", 0), backlog=100)
    ) as sock:
        clients = [socket.create_connection(sock.getsockname()) for _ in range(70)]
        for number, client in enumerate(clients):
            client.sendall(bytes([number]))
        batches = [await accept_some(sock), await accept_some(sock)]
        assert [len(batch) for batch in batches] == [64, 6]
        arrived = [*batches[0], *batches[1]]
        assert [(await each.recv(1))[0] for each in arrived] == list(range(70))
        for each in arrived:
            each.close()
        for client in clients:
            client.close()
