"""The console script: which command goes the short way, and how short that is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from zrepl_trio.entry import proxy_arguments

CODE = """
import sys
sys.path.append(sys.argv.pop())
before = set(sys.modules)
import zrepl_trio.entry, zrepl_trio.transport.stdinproxy
loaded = {name for name in sys.modules if not name.startswith("zrepl_trio")} - before
print(" ".join(sorted(loaded)))
"""


def installed() -> str:
    command = shutil.which("zrepl-trio", path=sysconfig.get_path("scripts"))
    assert command, "zrepl-trio is not installed beside this interpreter: make install"
    return command


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["stdinserver", "a"], ["a"]),
        (["stdinserver"], []),
        (["stdinserver", "--config", "f", "a"], ["--config", "f", "a"]),
        (["--config", "f", "stdinserver", "a"], ["--config", "f", "a"]),
        (["--config=f", "stdinserver", "a"], ["--config=f", "a"]),
        (["--config", "stdinserver", "stdinserver", "a"], ["--config", "stdinserver", "a"]),
        ([], None),
        (["run"], None),
        (["--config", "stdinserver"], None),
        (["--config"], None),
        (["--help"], None),
        (["stdinserver", "--help"], None),
        (["stdinserver", "-h"], None),
        (["status", "stdinserver"], None),
    ],
)
def test_only_stdinserver_goes_the_short_way(argv: list[str], arguments: list[str] | None) -> None:
    assert proxy_arguments(argv) == arguments


def test_the_short_way_loads_builtin_and_c_modules_only() -> None:
    """Those of `os`, which any start with `site` has loaded already, aside."""
    root = str(Path(__file__).parent.parent)
    loaded, os_only = (
        set(
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", code, root],
                capture_output=True,
                check=True,
                text=True,
            ).stdout.split()
        )
        for code in (
            CODE,
            CODE.replace("import zrepl_trio.entry, zrepl_trio.transport.stdinproxy", "import os"),
        )
    )
    assert loaded - os_only == {"_socket"}


@pytest.mark.parametrize(
    "command", [[installed()], [sys.executable, "-m", "zrepl_trio"]], ids=["script", "-m"]
)
def test_both_ways_in_give_status_and_one_line(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "stdinserver", "--sockdir", "/nonexistent", "a"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"zrepl-trio stdinserver: no daemon listens at /nonexistent/a")
    assert done.stderr.count(b"\n") == 1


def test_the_script_is_found_through_symlinks_and_odd_paths(tmp_path: Path) -> None:
    odd = tmp_path / "a directory's name"
    odd.mkdir()
    (odd / "zt").symlink_to(installed())
    for command, cwd in (([str(odd / "zt")], "/"), (["./zt"], odd), (["sh", "zt"], odd)):
        done = subprocess.run(
            [*command, "stdinserver", "a/b"],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert b"client identity 'a/b' must be made of" in done.stderr


INTERRUPTED = """
import os, signal, sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
wanted = sys.argv.pop()
sys.meta_path.insert(0, CtrlC())
from zrepl_trio.entry import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("--help", "zrepl_trio.cli.app"),
        ("--help", "typer.core"),
        ("configcheck", "zrepl_trio.config.load"),
        ("status", "trio"),
        ("run --once", "zrepl_trio.cli.run"),
        ("demo", "rich.console"),
        ("sandbox / -- true", "zrepl_trio.emulate.sandbox"),
    ],
)
def test_ctrl_c_while_it_loads_ends_it_without_a_word(command: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *command.split(), module],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 130)


@pytest.mark.slow
def test_other_commands_and_help_reach_the_full_command_line() -> None:
    for arguments in (["stdinserver", "--help"], ["--help"]):
        done = subprocess.run(
            [installed(), *arguments],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert "Usage: zrepl-trio" in done.stdout
