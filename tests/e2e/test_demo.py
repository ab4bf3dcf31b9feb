"""`zrepl-trio demo` as a user runs it: what it shows, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import marked_processes, scratch
from zrepl_trio.demo.openssh import find_sshd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

with_sshd = pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed")


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo puts its directory; empty again, and without processes, at the end."""
    with scratch() as directory:
        yield directory
        assert os.listdir(directory) == []
        assert marked_processes(directory) == []


def demo(
    place: Path, *arguments: str, columns: int = 80, stderr: int = subprocess.STDOUT
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "zrepl_trio", "demo", *arguments],
        env={**os.environ, "TMPDIR": str(place), "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], marks=[pytest.mark.sshd, with_sshd], id="sshd"),
        pytest.param(["--standin"], id="standin"),
    ],
)
def test_it_plays_to_the_end_and_leaves_nothing(place: Path, arguments: list[str]) -> None:
    with demo(place, *arguments) as process:
        shown = process.communicate()[0]
    assert process.returncode == 0, shown
    assert ("OpenSSH, its own sshd" in shown) == (not arguments)
    assert "did not have to be sent again" in shown
    assert "identical" in shown
    assert "type: pull" in shown
    assert "Nothing is left behind" in shown
    assert "Traceback" not in shown


def test_it_fits_a_narrow_terminal(place: Path) -> None:
    with demo(place, "--standin", columns=40) as process:
        shown = process.communicate()[0]
    assert process.returncode == 0, shown
    assert max(len(line) for line in shown.splitlines()) <= 40


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["zrepl-trio demo", "2. Changes", "ssh will be killed"])
def test_interrupted_at_any_moment_it_cleans_up(place: Path, number: int, moment: str) -> None:
    with demo(place, "--standin") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        process.send_signal(number)
        shown = process.communicate(timeout=60)[0]
    assert process.returncode == 130, shown
    assert "cleaning up" in shown
    assert "Traceback" not in shown


def test_keep_leaves_all_of_it_for_a_look(place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="zt-", dir="/tmp") as parent:
        kept = Path(parent) / "demo"
        with demo(place, "--standin", "--keep", str(kept)) as process:
            shown = process.communicate()[0]
        assert process.returncode == 0, shown
        assert (kept / "source/zrepl.yml").exists()
        assert "serving" in (kept / "source/daemon.log").read_text()
        assert (kept / "backup/pools/restored/letters").is_dir()
        assert marked_processes(kept) == []
        with demo(place, "--keep", str(kept)) as process:
            assert "exists already" in process.communicate()[0]
        assert process.returncode == 2


def test_a_reader_that_goes_away_ends_it_without_a_word(place: Path) -> None:
    with demo(place, "--standin", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


def test_a_directory_that_will_not_do_is_refused_before_anything_is_shown(place: Path) -> None:
    with demo(place, "--keep", str(place / ("d" * 90))) as process:
        (line,) = process.communicate()[0].splitlines()
    assert "is too long a path: sockets in it" in line
    assert process.returncode == 1


def test_a_directory_that_cannot_be_made_is_one_line(place: Path) -> None:
    with demo(place, "--keep", "no/such/place") as process:
        (line,) = process.communicate()[0].splitlines()
    assert line == "zrepl-trio: cannot make no/such/place for --keep: No such file or directory"
    assert process.returncode == 1
