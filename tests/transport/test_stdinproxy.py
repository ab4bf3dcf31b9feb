"""The forced command as a process: what it passes, how it ends, what it says when it can't."""

from __future__ import annotations

import array
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from zrepl_trio.config.load import DEFAULT_PATHS
from zrepl_trio.transport import banner, stdinproxy

COMMAND = shutil.which("zrepl-trio", path=sysconfig.get_path("scripts")) or "zrepl-trio"


AS_ANOTHER_USER = """
import os, sys
from zrepl_trio.transport.stdinproxy import main
os.setuid(54321)
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def daemon(sockdir: Path, identity: str = "a") -> Iterator[socket.socket]:
    """A listening socket, as a daemon's, ours or zrepl's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(10)
        listener.bind(str(sockdir / identity))
        listener.listen()
        yield listener


@contextmanager
def proxy(*arguments: str, stdin: int, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [COMMAND, "stdinserver", *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def accept(listener: socket.socket) -> tuple[socket.socket, list[int], bytes]:
    """The proxy's connection, the fds it passed and the data beside them."""
    connection, _ = listener.accept()
    connection.settimeout(10)
    data, ancillary, _flags, _ = connection.recvmsg(100, 1000)
    ((_, _, payload),) = ancillary
    return connection, list(array.array("i", payload)), data


def close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def test_constants_that_are_too_dear_to_import_are_the_same() -> None:
    assert stdinproxy._PROXY_ERROR == banner.PROXY_ERROR
    assert [str(path) for path in DEFAULT_PATHS] == list(stdinproxy._CONFIG_PATHS)


def test_passes_stdin_then_stdout_non_blocking_with_one_zero_byte(tmp_path: Path) -> None:
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    with (
        daemon(tmp_path) as listener,
        proxy("--sockdir", str(tmp_path), "a", stdin=in_read, stdout=out_write) as child,
    ):
        close([in_read, out_write])
        connection, fds, data = accept(listener)
        with connection:
            assert data == b"\0"
            assert [os.get_blocking(fd) for fd in fds] == [False, False]
            os.write(in_write, b"to the daemon")
            assert os.read(fds[0], 100) == b"to the daemon"
            os.write(fds[1], b"to the client")
            assert os.read(out_read, 100) == b"to the client"
            # The proxy has let go of its copies: our half-close reaches the client at once,
            # while it still waits for our byte.
            os.close(fds[1])
            assert os.read(out_read, 100) == b""
            assert child.stderr is not None
            assert child.stderr.read() == b""
            assert child.poll() is None
            connection.send(b"\0")
            assert child.wait(10) == 0
        close([fds[0], in_write, out_read])


@pytest.mark.parametrize(("feedback", "status"), [(b"\0", 0), (b"\7", 0), (b"", 1)])
def test_any_byte_ends_it_with_0_and_none_with_1(
    tmp_path: Path, feedback: bytes, status: int
) -> None:
    ours, theirs = socket.socketpair()
    with (
        daemon(tmp_path) as listener,
        proxy(f"--sockdir={tmp_path}", "a", stdin=theirs.fileno(), stdout=theirs.fileno()) as child,
    ):
        theirs.close()
        connection, fds, _ = accept(listener)
        close(fds)
        assert ours.recv(1) == b""
        if feedback:
            connection.send(feedback)
        connection.close()
        assert child.wait(10) == status
    ours.close()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("global: {serve: {stdinserver: {sockdir: DIR}}}\njobs: []\n", "DIR"),
        ('global: {serve: {stdinserver: {"sock\\x64ir": DIR}}}\n', "DIR"),
        ("# sockdir is not set\njobs: []\n", stdinproxy.DEFAULT_SOCKDIR),
        ("jobs: []\n", stdinproxy.DEFAULT_SOCKDIR),
        ("global: {serve: {stdinserver: {sockdir: ~}}}\n", stdinproxy.DEFAULT_SOCKDIR),
    ],
    ids=["set", "set with an escape", "only mentioned", "not set", "null"],
)
def test_finds_the_socket_directory_in_the_config(tmp_path: Path, text: str, where: str) -> None:
    config = tmp_path / "zrepl.yml"
    config.write_text(text.replace("DIR", str(tmp_path)))
    status, out, err = failing("--config", str(config), "no-such-client")
    path = where.replace("DIR", str(tmp_path)) + "/no-such-client"
    assert (status, out) == (1, banner.PROXY_ERROR)
    assert path in err


def failing(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> tuple[int, bytes, str]:
    """Status, stdout and the one line on stderr."""
    done = subprocess.run(
        [COMMAND, "stdinserver", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=env,
        cwd=cwd,
        timeout=20,
        check=False,
    )
    err = done.stderr.decode()
    assert err.startswith("zrepl-trio stdinserver: ")
    assert err.count("\n") == 1
    assert err.strip().isprintable()
    return done.returncode, done.stdout, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sockdir", "/x"], "exactly one client identity is needed, not 0"),
        (["--sockdir", "/x", "a", "b"], "exactly one client identity is needed, not 2"),
        (["--sockdir", "/x", ""], "identity is empty"),
        (["--sockdir", "/x", "a/b"], "'a/b' must be made of"),
        (["--sockdir", "/x", ".."], "'..' must be made of"),
        (["--sockdir", "/x", "."], "'.' must be made of"),
        (["--sockdir", "/x", "a\n"], r"'a\n' must be made of"),
        (["--sockdir", "/x", "é"], r"'\xe9' must be made of"),
        (["--sockdir", "/x", "x" * 256], "is longer than 255 bytes"),
        (["--sockdir", "/x", "x" * 255], "path too long"),
        (["--sockdir", "/x", "--", "-a"], "no daemon listens at /x/-a"),
        (["--sockdir"], "--sockdir needs a value"),
        (["--nonsense", "a"], "unknown option '--nonsense'"),
        (["--config", "/nonexistent.yml", "a"], "config /nonexistent.yml: No such file"),
        (["--config", "/", "a"], "config /: Is a directory"),
        (["--config", "\n\x1b[31m", "a"], r"config \n\x1b[31m: No such file"),
    ],
)
def test_failures_are_one_line_the_banner_and_status_1(arguments: list[str], said: str) -> None:
    status, out, err = failing(*arguments)
    assert said in err
    assert (status, out) == (1, banner.PROXY_ERROR)


@pytest.mark.parametrize(
    "data",
    [b"sockdir: [", b"sockdir: \xff", b"a: 1\na: 2\nsockdir: x\n", "sockdir: x".encode("utf-16")],
    ids=["not YAML", "not UTF-8", "duplicate key", "UTF-16"],
)
def test_a_config_that_must_be_parsed_and_cannot_be_is_named(tmp_path: Path, data: bytes) -> None:
    config = tmp_path / "zrepl.yml"
    config.write_bytes(data)
    status, out, err = failing("--config", str(config), "a")
    assert f"the config can't be used: {config}:" in err
    assert (status, out) == (1, banner.PROXY_ERROR)


def test_a_stale_socket_is_told_from_a_missing_one(tmp_path: Path) -> None:
    with daemon(tmp_path):
        pass
    assert "is gone: start it again" in failing("--sockdir", str(tmp_path), "a")[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_without_permission_is_told_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with daemon(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, "--sockdir", str(tmp_path), "a"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    assert done.returncode == 1
    assert b"log in as the user that the daemon runs as, not as uid 54321" in done.stderr
    assert done.stdout == banner.PROXY_ERROR


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_config_that_it_may_not_read_is_told(tmp_path: Path) -> None:
    config = tmp_path / "zrepl.yml"
    config.write_text("")
    config.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER, "--config", str(config), "a"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, banner.PROXY_ERROR)
    assert done.stderr.decode() == (
        f"zrepl-trio stdinserver: can't read the config {config}: Permission denied\n"
    )


def test_closed_standard_streams_are_refused(tmp_path: Path) -> None:
    with daemon(tmp_path):
        done = subprocess.run(
            ["sh", "-c", f"exec {COMMAND} stdinserver --sockdir {tmp_path} a <&-"],
            capture_output=True,
            check=False,
        )
    assert done.returncode == 1
    assert b"standard input or output is closed" in done.stderr


def test_on_a_terminal_it_explains_what_it_is_for() -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "stdinserver", "a"], stdin=slave, stdout=slave, stderr=subprocess.PIPE
    ) as child:
        os.close(slave)
        assert child.stderr is not None
        said = child.stderr.read().decode()
        assert child.wait(10) == 1
    os.close(master)
    assert "not for\ntyping" in said
    assert 'command="zrepl-trio stdinserver CLIENT_IDENTITY",restrict' in said


def test_a_killed_daemon_ends_it_with_1(tmp_path: Path) -> None:
    script = (  # listens before it can be found
        "import os, socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1] + '~');"
        "s.listen(); os.rename(sys.argv[1] + '~', sys.argv[1]); c, _ = s.accept(); m = c.recvmsg(1, 100); print('got', flush=True);"
        "time.sleep(60)"
    )
    ours, theirs = socket.socketpair()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "a")], stdout=subprocess.PIPE
    ) as other:
        while not (tmp_path / "a").exists():
            assert other.poll() is None
        with proxy(
            "--sockdir", str(tmp_path), "a", stdin=theirs.fileno(), stdout=theirs.fileno()
        ) as child:
            assert other.stdout is not None
            assert other.stdout.readline() == b"got\n"
            other.send_signal(signal.SIGKILL)
            assert child.wait(10) == 1
    ours.close()
    theirs.close()
