"""The listener against good clients, silent ones, hostile ones, and too many of them."""

from __future__ import annotations

import array
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import structlog
import trio
from structlog.typing import EventDict

from tests.support.resources import nothing_left_behind, open_fds, until
from zrepl_trio.errors import Refused, RemoteProtocolError
from zrepl_trio.transport.banner import BEGIN, HELO
from zrepl_trio.transport.base import Connection
from zrepl_trio.transport.fdconn import FdConnection
from zrepl_trio.transport.stdinserver import StdinserverListener
from zrepl_trio.zfs.names import check_identity

Handler = Callable[[Connection], Awaitable[None]]
ID = check_identity("client-1")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def sockdir(tmp_path: Path) -> str:
    return str(tmp_path / "s")


async def echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(data)
    await connection.send_eof()


@asynccontextmanager
async def serving(listener: StdinserverListener, handler: Handler = echo) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.serve, handler)
        yield
        nursery.cancel_scope.cancel()


class Proxy:
    """The proxy's and the client's ends in one: a UNIX socket and the other end of the fds."""

    def __init__(self, sockdir: str, identity: str = ID) -> None:
        self.sock = trio.socket.from_stdlib_socket(socket.socket(socket.AF_UNIX))
        self.path = os.path.join(sockdir, identity)
        self.client: FdConnection | None = None

    async def __aenter__(self) -> Proxy:
        await self.sock.connect(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()
        if self.client is not None:
            await self.client.aclose()

    async def pass_fds(self) -> FdConnection:
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), os.dup(theirs.fileno())]
        await self.send(fds)
        theirs.close()
        os.close(fds[1])
        fd = ours.detach()
        self.client = FdConnection(fd, fd, client_identity="the daemon")
        return self.client

    async def send(self, fds: Sequence[int], data: bytes = b"\0") -> None:
        await self.sock.sendmsg(
            [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        )

    async def greet(self) -> FdConnection:
        client = await self.pass_fds()
        assert await read_exactly(client, 31) == HELO
        await client.send_all(BEGIN)
        return client

    async def feedback(self) -> bytes:
        """What the daemon told the proxy at its end: b"\\0" when orderly, b"" when not."""
        with trio.fail_after(5):
            try:
                return await self.sock.recv(10)
            except ConnectionResetError:
                return b""


async def read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    with trio.fail_after(5):
        while len(data) < count:
            chunk = await stream.receive_some(count - len(data))
            assert chunk, data
            data += chunk
    return data


async def test_a_client_is_served_with_its_sockets_name_as_identity(sockdir: str) -> None:
    seen = []

    async def handler(connection: Connection) -> None:
        seen.append((connection.client_identity, connection.read_fd, connection.write_fd))
        await echo(connection)

    other = check_identity("other: client_2.x")
    async with serving(StdinserverListener(sockdir, [ID, other]), handler):
        assert sorted(os.listdir(sockdir)) == [ID, other]
        for identity in (ID, other):
            async with Proxy(sockdir, identity) as proxy:
                client = await proxy.greet()
                await client.send_all(b"hello")
                assert await read_exactly(client, 5) == b"hello"
                await client.send_eof()
                assert await client.receive_some() == b""
                assert await proxy.feedback() == b"\0"
        assert [identity for identity, _, _ in seen] == [ID, other]
        assert all(isinstance(fd, int) for _, *fds in seen for fd in fds)
    assert os.listdir(sockdir) == []


async def test_what_begin_says_is_not_looked_at(sockdir: str) -> None:
    async with serving(StdinserverListener(sockdir, [ID])), Proxy(sockdir) as proxy:
        client = await proxy.pass_fds()
        await client.send_all(b"?" * 31 + b"payload at once")
        assert await read_exactly(client, 31 + 15) == HELO + b"payload at once"


@pytest.mark.parametrize("step", ["connected", "fds passed", "half of BEGIN"])
async def test_silence_at_each_step_is_limited_and_delays_no_other(
    sockdir: str, step: str, logs: list[EventDict]
) -> None:
    async with (
        serving(StdinserverListener(sockdir, [ID], handshake_step_s=0.2)),
        Proxy(sockdir) as silent,
    ):
        if step != "connected":
            client = await silent.pass_fds()
            assert await read_exactly(client, 31) == HELO
            if step == "half of BEGIN":
                await client.send_all(BEGIN[:15])
        async with Proxy(sockdir) as quick:
            client = await quick.greet()
            await client.send_all(b"x")
            assert await read_exactly(client, 1) == b"x"
            assert logs == []
        assert await silent.feedback() == (b"" if step == "connected" else b"\0")
    (entry,) = logs
    assert (entry["event"], entry["identity"], entry["pid"]) == ("client refused", ID, os.getpid())
    said = "pass its fds" if step == "connected" else "answer our greeting"
    assert entry["reason"] == f"it did not {said} within 0.2 s"


async def test_a_client_that_takes_no_greeting_is_limited(
    sockdir: str, logs: list[EventDict]
) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_fd, b"x" * 4096)
    async with (
        serving(StdinserverListener(sockdir, [ID], handshake_step_s=0.05)),
        Proxy(sockdir) as proxy,
    ):
        await proxy.send([read_fd, write_fd])
        assert await proxy.feedback() == b"\0"
    assert logs[0]["reason"] == "it did not take our greeting within 0.05 s"
    os.close(read_fd)
    os.close(write_fd)


@pytest.mark.parametrize("count", [0, 1, 3, 253])
async def test_wrong_fds_are_closed_and_logged_and_the_listener_lives_on(
    sockdir: str, count: int, logs: list[EventDict]
) -> None:
    async with serving(StdinserverListener(sockdir, [ID])):
        async with Proxy(sockdir) as bad:
            if count:
                await bad.send([0] * count)
            else:
                await bad.sock.send(b"\0")
            assert await bad.feedback() == b""
        async with Proxy(sockdir) as good:
            await good.greet()
    assert [entry["reason"] for entry in logs] == [f"{count} fds came in place of 2"]


async def test_a_client_that_leaves_early_is_no_trouble(
    sockdir: str, logs: list[EventDict]
) -> None:
    async with serving(StdinserverListener(sockdir, [ID])):
        async with Proxy(sockdir):
            pass
        async with Proxy(sockdir) as proxy:
            client = await proxy.pass_fds()
            assert await read_exactly(client, 31) == HELO
            await client.aclose()
            assert await proxy.feedback() == b"\0"
    assert [entry["reason"] for entry in logs] == ["it left before it answered our greeting"]


async def test_beyond_the_limit_the_oldest_silent_client_is_dropped(
    sockdir: str, logs: list[EventDict]
) -> None:
    async with (
        serving(StdinserverListener(sockdir, [ID], pending_limit=3)),
        AsyncExitStack() as stack,
    ):
        served = await stack.enter_async_context(Proxy(sockdir))
        await served.greet()
        silent = [await stack.enter_async_context(Proxy(sockdir)) for _ in range(3)]
        await silent[1].pass_fds()
        more = [await stack.enter_async_context(Proxy(sockdir)) for _ in range(2)]
        assert await silent[0].feedback() == b""
        assert await silent[1].feedback() == b"\0"
        for proxy in (silent[2], more[0]):
            client = await proxy.greet()
            await client.send_all(b"ok")
            assert await read_exactly(client, 2) == b"ok"
    dropped = "too many silent clients, the oldest is dropped"
    assert [(entry["event"], entry["limit"]) for entry in logs] == [(dropped, 3)] * 2


async def test_a_crowd_of_128_may_greet_at_once(sockdir: str, logs: list[EventDict]) -> None:
    """As many as a pull of many filesystems opens, when all its connections begin together."""
    async with serving(StdinserverListener(sockdir, [ID])), AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(Proxy(sockdir)) for _ in range(129)]
        assert await crowd[0].feedback() == b""
        for proxy in (crowd[1], crowd[128]):
            client = await proxy.greet()
            await client.send_all(b"ok")
            assert await read_exactly(client, 2) == b"ok"
    assert [entry["limit"] for entry in logs] == [128]


async def test_a_failing_handler_is_logged_and_never_fatal(
    sockdir: str, logs: list[EventDict]
) -> None:
    failures: list[Exception] = [
        RemoteProtocolError("frame of unknown type 7"),
        ExceptionGroup("", [trio.BrokenResourceError("gone"), ExceptionGroup("", [KeyError("k")])]),
    ]

    async def handler(connection: Connection) -> None:
        del connection
        raise failures.pop(0)

    async with serving(StdinserverListener(sockdir, [ID]), handler):
        for _ in range(2):
            async with Proxy(sockdir) as proxy:
                await proxy.greet()
                assert await proxy.feedback() == b"\0"
    assert [(entry["log_level"], entry.get("error")) for entry in logs] == [
        ("warning", "frame of unknown type 7"),
        ("warning", "gone"),
        ("error", None),
    ]
    assert isinstance(logs[2]["exc_info"], KeyError)


async def test_a_bug_in_the_greeting_costs_one_client(
    sockdir: str, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_fd: int) -> None:
        raise KeyError("a bug")

    async with serving(StdinserverListener(sockdir, [ID])), Proxy(sockdir) as served:
        client = await served.greet()
        await client.send_all(b"up?")
        assert await read_exactly(client, 3) == b"up?"
        with monkeypatch.context() as broken:
            broken.setattr("zrepl_trio.transport.stdinserver.enlarge", fails)
            async with Proxy(sockdir) as unlucky:
                await unlucky.greet()
                assert await unlucky.feedback() == b"\0"
        await client.send_all(b"still here")
        assert await read_exactly(client, 10) == b"still here"
    assert [entry["event"] for entry in logs] == ["client refused by a bug"]


async def test_stopping_closes_every_client_and_removes_the_sockets(sockdir: str) -> None:
    async with AsyncExitStack() as stack:
        async with serving(StdinserverListener(sockdir, [ID])):
            served, passed, silent = [
                await stack.enter_async_context(Proxy(sockdir)) for _ in range(3)
            ]
            client = await served.greet()
            await client.send_all(b"x")
            assert await read_exactly(client, 1) == b"x"
            await read_exactly(await passed.pass_fds(), 31)
        assert os.listdir(sockdir) == []
        assert [await proxy.feedback() for proxy in (served, passed, silent)] == [
            *(b"\0", b"\0", b""),
        ]


async def test_refuses_a_live_socket_and_closes_those_it_had_opened(sockdir: str) -> None:
    other = check_identity("other")
    async with serving(StdinserverListener(sockdir, [other])):
        with pytest.raises(Refused, match="served by another running process"):
            await StdinserverListener(sockdir, [ID, other]).serve(echo)
        assert os.listdir(sockdir) == [other]


async def test_refuses_a_directory_open_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(Refused, match="chmod 0700"):
        await StdinserverListener(str(tmp_path), [ID]).serve(echo)


async def test_refuses_to_serve_nobody(sockdir: str) -> None:
    with pytest.raises(Refused, match="no client identity"):
        await StdinserverListener(sockdir, []).serve(echo)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_another_user_is_refused_though_it_reached_the_socket(
    sockdir: str, logs: list[EventDict]
) -> None:
    script = (
        "import os, socket, sys; os.chdir(sys.argv[1]); os.setuid(54321);"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[2]); print(s.recv(10))"
    )
    async with serving(StdinserverListener(sockdir, [ID])):
        os.chmod(sockdir, 0o711)  # opened up after our check
        os.chmod(os.path.join(sockdir, ID), 0o666)
        done = await trio.run_process(
            [sys.executable, "-c", script, sockdir, ID], capture_stdout=True
        )
    assert done.stdout == b"b''\n"
    assert logs[0]["reason"] == "uid 54321 is neither root nor our own user"


async def test_running_out_of_fds_is_survived_and_logged_once(
    sockdir: str, logs: list[EventDict]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    async with serving(StdinserverListener(sockdir, [ID])), Proxy(sockdir) as early:
        with trio.fail_after(5):
            await early.greet()
        late = Proxy(sockdir)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 1, hard))
        try:
            with suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            async with late:
                await until(lambda: bool(logs))
                await trio.sleep(0.25)
                for fd in fillers:
                    os.close(fd)
                fillers.clear()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                client = await late.greet()
                await client.send_all(b"ok")
                assert await read_exactly(client, 2) == b"ok"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
    assert [entry.get("error", entry) for entry in logs] == ["Too many open files"]


@pytest.mark.slow
async def test_500_connections_are_held_at_once_beside_100_silent_ones(sockdir: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip(f"needs 5000 open files in one process, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))
    try:
        async with serving(StdinserverListener(sockdir, [ID])), AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(Proxy(sockdir))
            clients = []
            for _ in range(500):
                proxy = await stack.enter_async_context(Proxy(sockdir))
                clients.append(await proxy.greet())
            for client in clients:
                await client.send_all(b"ping")
            for client in clients:
                assert await read_exactly(client, 4) == b"ping"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_importing_the_module_starts_nothing_else() -> None:
    """The daemon's modules never pull in the command line's."""
    code = "import sys, zrepl_trio.transport.stdinserver; print('typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"
