"""`zrepl-trio sandbox` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def sandbox(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zrepl_trio", "sandbox", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_pools_stay_in_the_directory_from_one_command_to_the_next(tmp_path: Path) -> None:
    pools = tmp_path / "new" / "pools"
    assert sandbox(str(pools), "--", "zpool", "create", "tank").returncode == 0
    done = sandbox(str(pools), "--", "sh", "-c", "zfs snapshot tank@1; zfs list -H -t all -o name")
    assert (done.returncode, done.stdout, done.stderr) == (0, "tank\ntank@1\n", "")
    assert (pools / "tank").is_dir()


def test_exit_status_is_the_commands(tmp_path: Path) -> None:
    assert sandbox(str(tmp_path), "--", "sh", "-c", "exit 42").returncode == 42
    done = sandbox(str(tmp_path), "--", "zfs", "list", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cannot open 'nosuch': dataset does not exist\n"


def test_options_of_the_command_are_its_own(tmp_path: Path) -> None:
    done = sandbox(str(tmp_path), "--", "echo", "--help", "-x")
    assert done.stdout == "--help -x\n"


def test_a_command_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    done = sandbox(str(tmp_path), "--", "no-such-command")
    assert done.returncode == 1
    assert done.stderr == "zrepl-trio: cannot run 'no-such-command': No such file or directory\n"


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = sandbox(str(tmp_path / "file"), "--", "true")
    assert done.returncode == 1
    assert done.stderr.startswith(f"zrepl-trio: cannot keep pools in {tmp_path / 'file'}: ")
    assert done.stderr.count("\n") == 1


def test_no_command_is_one_clear_line(tmp_path: Path) -> None:
    done = sandbox(str(tmp_path), "--")
    assert done.returncode == 2
    assert "sandbox DIR" in done.stderr or "CMD" in done.stderr
