from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.support.resources import nothing_left_behind
from zrepl_trio.control.socket import DaemonRunning, open_control_listener
from zrepl_trio.errors import Refused


async def test_the_socket_is_private_and_goes_with_its_block(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with nothing_left_behind():
        async with open_control_listener(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_ISSOCK(path.stat().st_mode)
        assert os.listdir(tmp_path) == []


async def test_a_second_daemon_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    async with open_control_listener(path):
        with pytest.raises(DaemonRunning, match=f"process {os.getpid()}"):
            async with open_control_listener(path):
                pytest.fail("two daemons")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


async def test_a_live_socket_of_another_program_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        with socket.socket(socket.AF_UNIX) as queued:
            queued.connect(path)  # fills the backlog: a busy daemon is alive too
            with pytest.raises(Refused, match="another running process"):
                async with open_control_listener(path):
                    pytest.fail("two daemons")


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
    async with open_control_listener(path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


async def test_a_file_in_the_way_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(Refused, match="not a socket"):
        async with open_control_listener(str(path)):
            pytest.fail("took it")
    assert path.read_text() == "precious"


async def test_a_path_that_is_too_long_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="107 bytes"):
        async with open_control_listener(str(tmp_path / ("x" * 120))):
            pytest.fail("listens")
