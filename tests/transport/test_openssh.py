"""The whole way with real OpenSSH: our ssh child, sshd, the forced command, our listener."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import structlog
import trio
from structlog.typing import EventDict

from tests.support.resources import children, nothing_left_behind, open_fds, until
from tests.support.sshd import forced_command, needs_sshd, ssh_target, sshd
from zrepl_trio.demo.openssh import OpenSsh
from zrepl_trio.errors import ConnectFailed, ZreplError
from zrepl_trio.transport.base import Connection
from zrepl_trio.transport.ssh import SshConnecter
from zrepl_trio.transport.sshargs import SshTarget
from zrepl_trio.transport.stdinserver import StdinserverListener
from zrepl_trio.zfs.names import check_identity

pytestmark = [pytest.mark.sshd, pytest.mark.slow, needs_sshd]

ID = check_identity("puller")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    # that a command has ended is told at debug
    with structlog.testing.capture_logs() as entries:
        yield entries


@dataclass
class Rig:
    """An sshd, a listener, and what the listener's handler got."""

    server: OpenSsh
    accepted: trio.MemoryReceiveChannel[Connection]

    def connecter(self, *, dial_timeout_s: float = 20, **changes: object) -> SshConnecter:
        return SshConnecter(ssh_target(self.server.login, **changes), dial_timeout_s=dial_timeout_s)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Connection, Connection]]:
        """(the connecting side's, the serving side's)"""
        async with self.connecter().connect() as client:
            with trio.fail_after(10):
                yield client, await self.accepted.receive()

    async def error(self, *, dial_timeout_s: float = 20, **changes: object) -> ZreplError:
        async def dial() -> None:
            async with self.connecter(dial_timeout_s=dial_timeout_s, **changes).connect():
                raise AssertionError("connected")

        with pytest.raises(ZreplError) as caught:
            await dial()
        return caught.value


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    sockdir = str(tmp_path / "s")
    send, accepted = trio.open_memory_channel[Connection](10)

    async def handler(connection: Connection) -> None:
        await send.send(connection)
        while connection.read_fd is not None:  # noqa: ASYNC110 - a stream has no closed event
            await trio.sleep(0.002)

    async with (
        sshd(tmp_path / "ssh", forced_command(sockdir, ID)) as server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(StdinserverListener(sockdir, [ID]).serve, handler)
        yield Rig(server, accepted)
        nursery.cancel_scope.cancel()


def running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def our_ssh() -> list[psutil.Process]:
    """The ssh clients among our own children."""
    return [
        child for child in psutil.Process().children() if child.name() == "ssh" and running(child)
    ]


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while chunk := await stream.receive_some():
        data += chunk
    return data


def processes_named(part: str, below: int) -> list[psutil.Process]:
    """The processes below `below` whose command line has `part`."""
    found = []
    for process in psutil.Process(below).children(recursive=True):
        try:
            if part in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def test_a_megabyte_each_way_and_half_close_in_both(rig: Rig) -> None:
    up, down = os.urandom(1_000_000), os.urandom(1_000_000)
    received: dict[str, bytes] = {}

    async def send(connection: Connection, data: bytes) -> None:
        await connection.send_all(data)
        await connection.send_eof()

    async def receive(name: str, connection: Connection) -> None:
        received[name] = await read_all(connection)

    async with rig.connected() as (client, server):
        assert server.client_identity == ID
        assert os.readlink(f"/proc/self/fd/{server.read_fd}").startswith(("socket:", "pipe:"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, up)
            nursery.start_soon(send, server, down)
            nursery.start_soon(receive, "down", client)
            nursery.start_soon(receive, "up", server)
        await server.aclose()
    assert received == {"up": up, "down": down}


async def test_the_servers_half_close_is_seen_while_the_other_way_goes_on(rig: Rig) -> None:
    async with rig.connected() as (client, server):
        await server.send_all(b"all of it")
        await server.send_eof()
        assert await read_all(client) == b"all of it"
        await client.send_all(b"still going")
        assert await server.receive_some() == b"still going"
        await client.send_eof()
        assert await server.receive_some() == b""


async def test_a_shell_that_stays_hides_the_half_close_and_nothing_else(rig: Rig) -> None:
    """dash as login shell runs the forced command as its child and keeps its fds open, as
    zrepl's own proxy does: only the full close is an end that the client sees."""
    path = rig.server.directory / "authorized_keys"
    path.write_text(path.read_text().replace('command="exec ', 'command="true; ', 1))
    path.write_text(path.read_text().replace('",restrict', '; true",restrict', 1))
    async with rig.connected() as (client, server):
        await server.send_all(b"all of it")
        await server.send_eof()
        assert await client.receive_some() == b"all of it"
        await client.send_all(b"still going")
        assert await server.receive_some() == b"still going"
        await client.send_eof()
        assert await server.receive_some() == b""
        await server.aclose()
        assert await client.receive_some() == b""


async def test_an_orderly_close_by_the_server_ends_ssh_with_0(
    rig: Rig, logs: list[EventDict]
) -> None:
    async with rig.connected() as (client, server):
        await server.send_all(b"bye")
        await server.aclose()
        assert await read_all(client) == b"bye"
        await until(lambda: not our_ssh())
    assert [entry for entry in logs if entry["log_level"] != "debug"] == []


async def test_ssh_killed_in_mid_stream_ends_both_sides(rig: Rig, logs: list[EventDict]) -> None:
    async def talk() -> None:
        async with rig.connected() as (client, server):
            await server.send_all(b"some")
            assert await client.receive_some() == b"some"
            (ssh,) = our_ssh()
            ssh.kill()
            assert await client.receive_some() == b""
            with pytest.raises(trio.BrokenResourceError):
                await send_for_ever(server)
            await server.aclose()
            await send_for_ever(client)

    with pytest.raises(trio.BrokenResourceError) as caught:
        await talk()
    assert caught.value.__notes__ == ["ssh was killed by signal 9"]
    told = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    assert told == ["connection lost"]


async def send_for_ever(connection: Connection) -> None:
    while True:
        await connection.send_all(b"x" * 65536)


async def test_sshds_session_killed_in_mid_stream_ends_both_sides(rig: Rig) -> None:
    async def talk() -> None:
        async with rig.connected() as (client, server):
            await server.send_all(b"some")
            assert await client.receive_some() == b"some"
            for process in psutil.Process(rig.server.pid).children(recursive=True):
                if "sshd" in process.name():
                    process.kill()
            assert await client.receive_some() == b""
            with pytest.raises(trio.BrokenResourceError):
                await send_for_ever(server)
            await server.aclose()
            await send_for_ever(client)

    with pytest.raises(trio.BrokenResourceError) as caught:
        await talk()
    (note,) = caught.value.__notes__
    assert note.startswith("ssh ended with status 255: ")


async def test_the_proxy_killed_in_mid_stream_stops_nobody_for_good(rig: Rig) -> None:
    """The fds live on in the daemon: what it sends arrives, and its close ends the connection."""
    async with rig.connected() as (client, server):
        await server.send_all(b"some")
        assert await client.receive_some() == b"some"
        (proxy,) = processes_named("stdinserver --sockdir", rig.server.pid)
        proxy.kill()
        await until(lambda: not running(proxy))
        await server.send_all(b"more")
        await server.aclose()
        assert await read_all(client) == b"more"


async def test_options_that_openssh_refuses_are_told_in_its_words(rig: Rig) -> None:
    error = await rig.error(options=(*rig.server.login.options, "Compression=on"))
    assert isinstance(error, ConnectFailed)
    assert 'unsupported option "on".' in str(error)
    assert "mend the entry of connect.options" in str(error)


async def test_a_wrong_key_is_told(rig: Rig) -> None:
    host_key = rig.server.directory / "host_key"
    error = await rig.error(identity_file=str(host_key))
    assert "Permission denied (publickey)" in str(error)
    assert "must stand in authorized_keys" in str(error)


async def test_a_missing_key_is_told(rig: Rig) -> None:
    error = await rig.error(identity_file="/nonexistent/id")
    assert "Identity file /nonexistent/id not accessible" in str(error)
    assert "connect.identity_file must name a private key" in str(error)


async def test_an_unknown_host_key_is_told(rig: Rig) -> None:
    (rig.server.directory / "known_hosts").write_text("")
    error = await rig.error()
    assert "Host key verification failed." in str(error)
    assert "ssh-keyscan" in str(error)


async def test_a_changed_host_key_is_told(rig: Rig) -> None:
    known_hosts = rig.server.directory / "known_hosts"
    other = (rig.server.directory / "identity.pub").read_text()
    known_hosts.write_text(f"[127.0.0.1]:{rig.server.login.port} {other}")
    error = await rig.error()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in str(error)
    assert "find out why" in str(error)


async def test_a_refused_connection_is_told(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = await rig.error(port=port)
    assert "Connection refused" in str(error)
    assert f"nothing listens at 127.0.0.1 port {port}" in str(error)


async def test_a_host_that_accepts_and_says_nothing_is_limited(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = await rig.error(port=server.getsockname()[1], dial_timeout_s=0.3)
    assert isinstance(error, ConnectFailed)
    assert "no connection within dial_timeout (0.3 s); ssh said nothing" in str(error)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo 'Welcome!'; {}", "place of zrepl's greeting: 'Welcome!\\nSSHCON_HELO'"),
        ("echo oops >&2; exit 3", "ssh ended with status 3: oops"),
        ("/nonexistent/zrepl-trio", "give zrepl-trio's absolute path"),
        ("true", "was not `zrepl-trio stdinserver`"),
    ],
)
async def test_a_forced_command_that_misbehaves_is_told(rig: Rig, command: str, says: str) -> None:
    path = rig.server.directory / "authorized_keys"
    line = path.read_text()
    old = line.split('"')[1]
    path.write_text(line.replace(f'"{old}"', f'"{command.format(old)}"'))
    assert says in str(await rig.error())


async def test_a_daemon_that_is_not_there_is_told(rig: Rig, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "s")
    error = await rig.error()
    assert isinstance(error, ConnectFailed)
    assert "could not be reached by `stdinserver`" in str(error)
    assert "zrepl-trio stdinserver: no daemon listens at" in str(error)


async def test_cancel_while_dialling_and_after_leaves_nothing(rig: Rig) -> None:
    fds = set(open_fds())
    known = children()
    for delay_s in (0, 0.001, 0.005, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        with trio.move_on_after(delay_s):
            async with rig.connecter().connect() as client:
                await client.send_all(b"x" * 1_000_000)
                await trio.sleep_forever()
        assert children() == known
        while True:  # close what the listener got, so that only the client's own could be left
            try:
                await rig.accepted.receive_nowait().aclose()
            except trio.WouldBlock:
                break
    await until(lambda: not processes_named("stdinserver", rig.server.pid))
    await until(lambda: set(open_fds()) <= fds)


async def test_sshd_ends_with_its_sessions(tmp_path: Path) -> None:
    async def dial(target: SshTarget) -> None:
        with pytest.raises(ConnectFailed, match="closed by remote host"):
            await SshConnecter(target, dial_timeout_s=0).connect().__aenter__()

    async with trio.open_nursery() as nursery:
        async with sshd(tmp_path / "ssh", "exec sleep 1000") as server:
            nursery.start_soon(dial, ssh_target(server.login))
            await until(lambda: bool(processes_named("sleep 1000", server.pid)))
            ending = psutil.Process(server.pid).children(recursive=True)
        assert not any(running(process) for process in ending)
