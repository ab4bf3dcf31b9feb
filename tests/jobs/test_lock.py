from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zrepl_trio.errors import Refused
from zrepl_trio.jobs.lock import JobLocked, held_lock

HOLD = """
import sys
from zrepl_trio.jobs.lock import held_lock
with held_lock(sys.argv[1], "pull"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        with pytest.raises(JobLocked) as caught, held_lock(str(tmp_path), "pull"):
            pytest.fail("got the lock")
        assert caught.value.pid == child.pid
        assert f"process {child.pid}" in str(caught.value)
        with held_lock(str(tmp_path), "other"):
            pass
        child.communicate("")


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
    with held_lock(str(tmp_path), "pull"):
        assert (tmp_path / "locks" / "pull").read_text() == f"{os.getpid()}\n"


def test_nothing_stays_behind(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyError), held_lock(str(tmp_path), "pull"):
        raise KeyError
    assert set(os.listdir("/proc/self/fd")) == before
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_lock_file_that_somebody_took_away_ends_nothing_and_another_s_is_left(
    tmp_path: Path,
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    path = tmp_path / "locks" / "pull"
    with held_lock(str(tmp_path), "pull"):
        path.unlink()
        with held_lock(str(tmp_path), "pull"):
            pass
    with held_lock(str(tmp_path), "pull"):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_lock_is_ours_twice_in_a_row_but_not_at_once(tmp_path: Path) -> None:
    with (
        held_lock(str(tmp_path), "pull"),
        pytest.raises(JobLocked),
        held_lock(str(tmp_path), "pull"),
    ):
        pytest.fail("got the lock twice")
    with held_lock(str(tmp_path), "pull"):
        pass


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with (
        pytest.raises(Refused, match=str(tmp_path / "locks" / "pull")),
        held_lock(str(tmp_path), "pull"),
    ):
        pytest.fail("got the lock")
