"""sd_notify on real datagram sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.logs import logged
from tests.support.resources import nothing_left_behind
from zrepl_trio.clock import SystemClock
from zrepl_trio.logs.lines import Level
from zrepl_trio.notify import Notifier


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_it_tells_over_the_socket_that_the_environment_names(
    kind: str, tmp_path: Path
) -> None:
    name = f"{tmp_path}/n" if kind == "path" else f"@zrepl-trio-test-{os.getpid()}"
    environ = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(name.replace("@", "\0"))
        notifier = Notifier(environ)
        with nothing_left_behind():
            await notifier.ready("2 jobs up")
            await notifier.stopping()
        assert told.recv(1000) == b"READY=1\nSTATUS=2 jobs up"
        assert told.recv(1000) == b"STOPPING=1\nSTATUS=stopping"
    assert environ == {"PATH": "/bin"}  # our children have nothing to tell


async def test_the_watchdog_hears_of_us_twice_an_interval(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = f"{tmp_path}/n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.setblocking(False)
        notifier = Notifier(
            {
                "NOTIFY_SOCKET": path,
                "WATCHDOG_USEC": "60000000",
                "WATCHDOG_PID": str(os.getpid()),
            }
        )
        with trio.move_on_after(100):
            await notifier.watch()
        for _ in range(4):  # at 0, 30, 60, 90 s
            assert told.recv(100) == b"WATCHDOG=1"
        with pytest.raises(BlockingIOError):
            told.recv(100)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0x10"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},  # another process is to do it
    ],
)
async def test_where_nobody_asks_nobody_is_told(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    with trio.fail_after(5):
        await notifier.watch()
        await notifier.ready("")


async def test_a_socket_that_is_gone_is_logged_and_nothing_else(tmp_path: Path) -> None:
    with logged(SystemClock(), Level.WARN) as lines:
        await Notifier({"NOTIFY_SOCKET": f"{tmp_path}/none"}).stopping()
        await Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).stopping()
    assert ["systemd cannot be told" in lines[0], "vsock:2:1234" in lines[1]] == [True, True]
    assert len(lines) == 2
