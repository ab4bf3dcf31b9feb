"""scripts/make-venv: one line where something is missing, and nothing outside the venv later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FAKE = """\
#!/bin/sh
case "$*" in
  -V) echo "Python 3.9.1" ;;
  *version_info*) exit {old} ;;
  *ensurepip*) echo "No module named ensurepip" >&2; exit {no_venv} ;;
  "-m venv "*) {venv}; exit 1 ;;
esac
"""


def fake_python(
    directory: Path, *, old: int = 0, no_venv: int = 0, venv: str = "mkdir -p $3"
) -> str:
    fake = directory / "python3"
    fake.write_text(FAKE.format(old=old, no_venv=no_venv, venv=venv))
    fake.chmod(0o755)
    return str(fake)


def make_venv(python: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/make-venv", python, directory], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("old", "no_venv", "said"),
    [
        (1, 0, "is Python 3.9.1, 3.11 or newer is needed"),
        (0, 1, "has no venv module (Debian/Ubuntu: apt install python3-venv)"),
        (0, 0, "could not make"),
    ],
)
def test_what_is_missing_is_named_in_one_line(
    tmp_path: Path, old: int, no_venv: int, said: str
) -> None:
    done = make_venv(fake_python(tmp_path, old=old, no_venv=no_venv), tmp_path / "venv")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("zrepl-trio: ")
    assert said in line
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(("name", "status"), [("INT", 130), ("TERM", 143)])
def test_interrupted_it_says_so_and_leaves_nothing(tmp_path: Path, name: str, status: int) -> None:
    unpack = f'echo "$TMPDIR" >{tmp_path}/where; touch "$TMPDIR/pip.whl"'
    interrupted = f"{unpack}; echo Traceback >&2; kill -{name} $PPID"
    done = make_venv(fake_python(tmp_path, venv=interrupted), tmp_path / "venv")
    assert done.stderr == f"zrepl-trio: interrupted, {tmp_path}/venv is removed\n"
    assert done.returncode == status
    assert (tmp_path / "where").read_text().startswith(f"{tmp_path}/venv/")
    assert not (tmp_path / "venv").exists()


def test_what_venv_says_of_its_failure_is_shown(tmp_path: Path) -> None:
    done = make_venv(fake_python(tmp_path, venv="echo no space >&2"), tmp_path / "venv")
    assert done.stderr.splitlines()[0] == "no space"
    assert "could not make" in done.stderr


def test_no_python_at_all_is_named_too(tmp_path: Path) -> None:
    done = make_venv("", tmp_path / "venv")
    assert done.returncode == 1
    assert "install Python 3.11 or newer (Debian/Ubuntu: apt install python3" in done.stderr


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = make_venv(str(tmp_path / "python3"), tmp_path / "venv")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"zrepl-trio: there is no {tmp_path}/python3: make PYTHON=/path/to/python3.11 ..."
    ]


@pytest.mark.slow
def test_what_is_compiled_stays_in_the_venv(tmp_path: Path) -> None:
    venv, module = tmp_path / "venv", tmp_path / "ours.py"
    done = make_venv(sys.executable, venv)
    assert done.returncode == 0, done.stderr
    module.write_text("")
    for command in ("import ours", "import ours; print(ours.__cached__)"):
        done = subprocess.run(
            [venv / "bin/python", "-c", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith(str(venv / "pycache"))
    assert not (venv / "tmp").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.py", "venv"]
