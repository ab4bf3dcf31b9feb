from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from zrepl_trio.demo import weak_link

SENDS = "import sys; sys.stdout.buffer.write(b'x' * int(sys.argv[1]))"


def start(directory: Path, count: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", weak_link.__file__, str(directory)]
    argv += [sys.executable, "-c", SENDS, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, env={})


def appears(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()


def test_without_a_plan_nothing_is_in_between(tmp_path: Path) -> None:
    with start(tmp_path, 1000) as child:
        assert child.communicate()[0] == b"x" * 1000
    assert child.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_it_counts(tmp_path: Path) -> None:
    (tmp_path / "count").touch()
    with start(tmp_path, 3_000_000) as child:
        assert len(child.communicate()[0]) == 3_000_000
    assert appears(tmp_path / f"received.{child.pid}") == "3000000\n"


def test_a_cut_kills_ssh_after_exactly_so_many_bytes_and_once(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("cut 1000000\n")
    with start(tmp_path, 10_000_000) as child:
        assert len(child.communicate()[0]) == 1_000_000
    assert child.returncode == -9
    assert appears(tmp_path / f"received.{child.pid}") == "1000000\n"
    with start(tmp_path, 2_000_000) as child:
        assert len(child.communicate()[0]) == 2_000_000


def test_a_connection_that_ends_earlier_leaves_the_plan(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("cut 1000000\n")
    with start(tmp_path, 1000) as child:
        assert len(child.communicate()[0]) == 1000
    assert (tmp_path / "plan").exists()


def test_a_stall_lasts_until_it_is_lifted(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("stall 1000000\n")
    with start(tmp_path, 3_000_000) as child:
        assert child.stdout is not None
        assert len(child.stdout.read(1_000_000)) == 1_000_000
        assert appears(tmp_path / "stalled") == f"{child.pid}\n"
        (tmp_path / "stalled").unlink()
        assert len(child.stdout.read()) == 2_000_000


@pytest.mark.parametrize("who", ["ssh", "reader"])
def test_a_stall_ends_with_either_end(tmp_path: Path, who: str) -> None:
    (tmp_path / "plan").write_text("stall 1000000\n")
    with start(tmp_path, 3_000_000) as child:
        assert child.stdout is not None
        assert len(child.stdout.read(1_000_000)) == 1_000_000
        appears(tmp_path / "stalled")
        if who == "ssh":
            child.kill()
        else:
            child.stdout.close()
        appears(tmp_path / f"received.{child.pid}")
