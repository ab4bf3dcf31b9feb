"""Taking a socket path: stale, live and foreign files."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.resources import nothing_left_behind
from zrepl_trio.errors import Refused
from zrepl_trio.transport.unixsocket import listening


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "sock"


async def test_listens_with_mode_0600_and_removes_its_file(path: Path) -> None:
    with listening(str(path)) as sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            accepted, _ = await sock.accept()
            accepted.close()
    assert not path.exists()


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
        old.listen()
    with listening(str(path)):
        assert path.is_socket()


async def test_a_live_socket_is_refused_and_left_alone(path: Path) -> None:
    with listening(str(path)) as sock:
        with (
            pytest.raises(Refused, match="served by another running process"),
            listening(str(path)),
        ):
            raise AssertionError
        with trio.fail_after(5):
            probe, _ = await sock.accept()
        probe.close()
        assert path.is_socket()


async def test_a_live_socket_with_a_full_queue_is_refused(path: Path) -> None:
    with listening(str(path), backlog=0), socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        with pytest.raises(Refused, match="served by another"), listening(str(path)):
            raise AssertionError


async def test_another_kind_of_file_is_refused_and_kept(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(Refused, match="not a socket; move it away"), listening(str(path)):
        raise AssertionError
    assert path.read_text() == "precious"


async def test_a_datagram_socket_is_not_taken_for_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(Refused, match="can't tell whether"), listening(str(path)):
            raise AssertionError


async def test_a_path_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    with pytest.raises(Refused, match="longer than the 107 bytes"), listening(str(path)):
        raise AssertionError


async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"), listening(str(tmp_path / "no" / "s")):
        raise AssertionError


async def test_a_successors_file_is_not_removed(path: Path) -> None:
    with listening(str(path)):
        os.unlink(path)
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(path))
    assert path.is_socket()
    successor.close()
