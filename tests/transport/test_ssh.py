"""Dialling by ssh: through the stand-in, with scripts that misbehave, and cancelled anywhere."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import structlog
import trio
from structlog.typing import EventDict
from trio.testing import check_half_closeable_stream, check_two_way_stream

from tests.support.resources import cancel_at_each_step, nothing_left_behind, until
from tests.support.sshd import forced_command, ssh_target
from zrepl_trio.demo.openssh import install_standin
from zrepl_trio.errors import ConnectFailed, HandshakeFailed, TransportError, ZreplError
from zrepl_trio.replication.classify import ErrorClass, classify
from zrepl_trio.rpc.greeting import greet_server
from zrepl_trio.rpc.label import Label
from zrepl_trio.transport.banner import BEGIN, HELO, PROXY_ERROR
from zrepl_trio.transport.base import Connection
from zrepl_trio.transport.ssh import SshConnecter
from zrepl_trio.transport.sshargs import SshTarget
from zrepl_trio.transport.stdinserver import StdinserverListener
from zrepl_trio.zfs.names import check_identity

ID = check_identity("puller")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


async def echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(data)
    await connection.send_eof()
    await connection.receive_some()


@asynccontextmanager
async def listening(
    sockdir: str, handler: Callable[[Connection], Awaitable[None]] = echo
) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(StdinserverListener(sockdir, [ID]).serve, handler)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def sockdir(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def standin(tmp_path: Path, sockdir: str) -> SshTarget:
    return ssh_target(install_standin(tmp_path, forced_command(sockdir, ID)))


def scripted(tmp_path: Path, script: str) -> SshTarget:
    """A program in ssh's place; it gets ssh's arguments and an empty environment."""
    path = tmp_path / "ssh"
    path.write_text("#!/bin/sh\nPATH=/usr/bin:/bin\n" + script)
    path.chmod(0o755)
    return SshTarget(host="h", user="u", port=22, identity_file="/id", ssh_command=str(path))


def said(message: bytes) -> str:
    """A shell command that writes the bytes."""
    return "printf '" + "".join(f"\\{byte:03o}" for byte in message) + "'\n"


async def dial(target: SshTarget, *, dial_timeout_s: float = 10) -> None:
    async with SshConnecter(target, dial_timeout_s=dial_timeout_s).connect():
        raise AssertionError("connected")


async def test_bytes_go_both_ways_and_half_close_is_seen(standin: SshTarget, sockdir: str) -> None:
    connecter = SshConnecter(standin, dial_timeout_s=10)
    assert connecter.peer == f"{standin.user}@localhost:22"
    data = os.urandom(1_000_000)
    async with listening(sockdir), connecter.connect() as connection:
        assert connection.client_identity == "localhost"
        assert isinstance(connection.read_fd, int)
        assert isinstance(connection.write_fd, int)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send_all, data)
            received = b""
            while len(received) < len(data):
                received += await connection.receive_some()
        assert received == data
        await connection.send_eof()
        assert await connection.receive_some() == b""


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_two_way_stream, check_half_closeable_stream])
async def test_both_ends_pass_trios_suites(
    standin: SshTarget, sockdir: str, check: Callable[..., Awaitable[None]]
) -> None:
    """Our pipes, the stand-in's relay and socketpair, the passed fds, and their connection."""
    accepted, arrived = trio.open_memory_channel[Connection](1)

    async def until_closed(connection: Connection) -> None:
        while connection.read_fd is not None:  # noqa: ASYNC110 - a stream has no closed event
            await trio.sleep(0.001)

    async def handler(connection: Connection) -> None:
        await accepted.send(connection)
        await until_closed(connection)

    async def dialled(*, task_status: trio.TaskStatus[Connection]) -> None:
        async with SshConnecter(standin, dial_timeout_s=10).connect() as connection:
            task_status.started(connection)
            await until_closed(connection)

    async with listening(sockdir, handler), trio.open_nursery() as nursery:

        async def made() -> tuple[Connection, Connection]:
            client: Connection = await nursery.start(dialled)
            return client, await arrived.receive()

        await check(made, None)


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        (
            "echo 'command-line line 0: unsupported option \"on\".' >&2; exit 255",
            ConnectFailed,
            'u@h:22: ssh ended with status 255: command-line line 0: unsupported option "on". — mend',
        ),
        (
            "echo 'Host key verification failed.' >&2; exit 255",
            ConnectFailed,
            "Host key verification failed. — make the host key known",
        ),
        ("exit 127", ConnectFailed, "ended with status 127 — the forced command"),
        ("exit 0", ConnectFailed, "status 0 — what ran on h was not `zrepl-trio stdinserver`"),
        ("kill -9 $$", ConnectFailed, "ssh was killed by signal 9"),
        (
            said(PROXY_ERROR) + "echo 'no daemon listens' >&2; exit 1",
            ConnectFailed,
            "and that both use the same socket directory; it said: no daemon listens",
        ),
        (
            "echo 'Welcome to h, please behave'; " + said(HELO) + "sleep 9",
            HandshakeFailed,
            r"greeting: 'Welcome to h, please behave\nSSHCON_HELO' — the forced command must be",
        ),
        (
            "echo hi; exit 3",
            HandshakeFailed,
            r"only 'hi\n' came in place of the greeting; ssh ended with status 3",
        ),
        (said(HELO[:7]) + "kill -9 $$", ConnectFailed, "ssh was killed by signal 9"),
        (
            "exec 1>&-; sleep 9",
            ConnectFailed,
            "ssh closed its output but goes on",
        ),
    ],
)
async def test_what_goes_wrong_is_said_in_sshs_words_with_advice(
    tmp_path: Path, script: str, error: type[ZreplError], says: str
) -> None:
    with pytest.raises(error) as caught:
        await dial(scripted(tmp_path, script))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_ssh_missing_names_the_path_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    target = SshTarget(host="h", user="u", port=22, identity_file="/id")
    with pytest.raises(ConnectFailed, match=f"no program 'ssh' in the daemon's PATH .{tmp_path}.;"):
        await dial(target)
    with pytest.raises(ConnectFailed, match=f"no program '{tmp_path}/x' there; install"):
        await dial(
            SshTarget(host="h", user="u", port=22, identity_file="/i", ssh_command=f"{tmp_path}/x")
        )


async def test_what_the_system_cannot_run_is_told(tmp_path: Path) -> None:
    target = scripted(tmp_path, "")
    Path(target.ssh_command).write_text("#!/nonexistent/interpreter\n")
    with pytest.raises(ConnectFailed, match=r"can't start .*ssh: No such file"):
        await dial(target)


async def test_ssh_gets_the_references_arguments_and_an_empty_environment(tmp_path: Path) -> None:
    script = (
        f'printf "%s\\n" "$@" > {tmp_path}/argv; unset PATH; /usr/bin/env > {tmp_path}/env; exit 1'
    )
    with pytest.raises(ConnectFailed):
        await dial(scripted(tmp_path, script))
    given = " ".join((tmp_path / "argv").read_text().splitlines())
    assert given == "-p 22 -T -i /id -o BatchMode=yes u@h"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PWD", "_", "SHLVL", "OLDPWD"}  # a shell sets these itself


@pytest.mark.parametrize("script", ["sleep 9", "printf SSHCON; sleep 9", "trap '' TERM; sleep 9"])
async def test_silence_is_limited_by_dial_timeout(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zrepl_trio.transport.ssh._TERM_S", 0.05)
    monkeypatch.setattr("zrepl_trio.transport.ssh._LINGER_S", 0.05)
    with pytest.raises(ConnectFailed) as caught:
        await dial(scripted(tmp_path, "echo hm >&2\n" + script), dial_timeout_s=0.1)
    assert "u@h:22: no connection within dial_timeout (0.1 s); ssh said: hm" in str(caught.value)


async def test_dial_timeout_0_sets_no_limit(tmp_path: Path) -> None:
    target = scripted(tmp_path, "sleep 0.1\n" + said(HELO) + "head -c 31; exec cat")
    async with SshConnecter(target, dial_timeout_s=0).connect() as connection:
        received = b""
        while len(received) < 31:
            received += await connection.receive_some()
        assert received == BEGIN


async def test_the_bodys_error_comes_out_as_it_is(standin: SshTarget, sockdir: str) -> None:
    async with listening(sockdir):
        with pytest.raises(ValueError, match=r"^mine$") as caught:
            async with SshConnecter(standin, dial_timeout_s=10).connect():
                raise ValueError("mine")
    assert not hasattr(caught.value, "__notes__")


async def test_ssh_dying_in_mid_stream_is_an_end_and_is_told(
    tmp_path: Path, logs: list[EventDict]
) -> None:
    target = scripted(
        tmp_path, said(HELO) + "head -c 31 >/dev/null; echo some; echo gone >&2; kill -9 $$"
    )

    async def talk() -> None:
        async with SshConnecter(target, dial_timeout_s=10).connect() as connection:
            assert await connection.receive_some() == b"some\n"
            assert await connection.receive_some() == b""
            while True:
                await connection.send_all(b"x" * 65536)

    with pytest.raises(trio.BrokenResourceError) as caught:
        await talk()
    assert caught.value.__notes__ == ["ssh was killed by signal 9: gone"]
    assert [entry["reason"] for entry in logs] == caught.value.__notes__


async def test_ssh_dying_in_the_version_handshake_is_told_too(tmp_path: Path) -> None:
    target = scripted(tmp_path, said(HELO) + "head -c 31 >/dev/null; echo gone >&2; kill -9 $$")

    async def greet() -> None:
        async with SshConnecter(target, dial_timeout_s=10).connect() as connection:
            await greet_server(connection, Label.CONTROL)

    with pytest.raises(TransportError) as caught:
        await greet()
    assert classify(caught.value) is ErrorClass.RECONNECT
    assert caught.value.__notes__ == ["ssh was killed by signal 9: gone"]


async def test_leaving_lets_ssh_deliver_what_it_holds(tmp_path: Path) -> None:
    target = scripted(
        tmp_path, said(HELO) + f"head -c 31 >/dev/null; sleep 0.1; cat > {tmp_path}/got"
    )
    async with SshConnecter(target, dial_timeout_s=10).connect() as connection:
        await connection.send_all(b"last words")
    assert (tmp_path / "got").read_bytes() == b"last words"


async def test_an_ssh_that_ignores_everything_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zrepl_trio.transport.ssh._TERM_S", 0.05)
    monkeypatch.setattr("zrepl_trio.transport.ssh._LINGER_S", 0.05)
    target = scripted(
        tmp_path,
        said(HELO)
        + f"trap '' TERM HUP\n(sleep 99; true) & echo $! > {tmp_path}/pid; sleep 99; sleep 99",
    )
    async with SshConnecter(target, dial_timeout_s=10).connect():
        await until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    await until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )


async def test_cancel_at_each_step_leaves_nothing(tmp_path: Path) -> None:
    target = scripted(tmp_path, said(HELO) + "head -c 31 >/dev/null; exec cat")

    async def once() -> None:
        async with SshConnecter(target, dial_timeout_s=10).connect() as connection:
            await connection.send_all(b"x" * 100)
            assert await connection.receive_some() == b"x" * 100
            await connection.send_eof()
            assert await connection.receive_some() == b""

    assert await cancel_at_each_step(once) > 10
