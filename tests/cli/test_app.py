"""The command line from outside: help, options, errors and exit statuses."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.commands import COMMANDS, PLACES
from tests.support.hosts import scratch
from zrepl_trio import __version__
from zrepl_trio.cli.app import app
from zrepl_trio.cli.exitcodes import ExitCode, exit_code
from zrepl_trio.control.faults import DaemonUnreachable
from zrepl_trio.control.socket import DaemonRunning
from zrepl_trio.errors import ConfigErrors, ConnectFailed, Refused, ZfsError, ZreplError
from zrepl_trio.jobs.lock import JobLocked


def zrepl_trio(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zrepl_trio", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_says_what_for_and_how(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert len(result.output.splitlines()) >= 8


@pytest.mark.parametrize(
    ("command", "usage", "argument"),
    [
        ("run", "run [OPTIONS] [JOB...]", "JOB"),
        ("signal wakeup", "signal wakeup [OPTIONS] JOB", "JOB"),
        ("sandbox", "sandbox [OPTIONS] DIR -- CMD...", "DIR"),
        ("gencompletion bash", "gencompletion bash [OPTIONS] FILE", "FILE"),
    ],
)
def test_usage_is_what_one_types_and_names_no_types(
    command: str, usage: str, argument: str
) -> None:
    lines = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="z").output.splitlines()
    assert f"Usage: z {usage}" in lines
    assert any(line.startswith(f"  {argument}  ") for line in lines)


def test_the_overview_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    for command in COMMANDS:
        assert f"\n  {command.split()[0]} " in result.output


def test_no_arguments_is_help() -> None:
    assert "Commands:" in CliRunner().invoke(app, []).output


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run", "--nonsense"],
        ["signal", "wakeup"],
        ["run", "job"],
        ["pprof", "listen", "off"],
        ["pprof", "listen", "on", "127.0.0.1:6060"],
        ["pprof", "activity-trace", "127.0.0.1:6060"],
        ["status", "--mode", "interactive"],
        ["status", "--mode", "frob"],
        ["status", "--delay", "soon"],
        ["status", "--mode", "dump", "--json"],
        ["version", "--show", "server"],
        ["configcheck", "--format", "pretty"],
        ["configcheck", "--what", "frob"],
        ["configcheck", "--format", "json", "--what", "frob"],
        ["configcheck", "--format", "json", "--print-current"],
        ["zfs-abstraction", "list", "--job", ""],
        ["zfs-abstraction", "list", "--type", "hold"],
        ["zfs-abstraction", "list", "--fs", ""],
        ["zfs-abstraction", "list", "--fs", "tank<:yes"],
        ["zfs-abstraction", "list", "-p", "0"],
        ["zfs-abstraction", "release-stale", "--type", "step-hold"],
        ["zfs-abstraction", "create", "step", "-t", "tank#b", "-j", "j"],
        ["zfs-abstraction", "create", "step", "-t", "tank", "-j", "j"],
        ["zfs-abstraction", "create", "step", "-t", "tank@s", "-j", "a/b"],
        ["test", "placeholder"],
        ["test", "placeholder", "--all", "--dataset", "tank"],
        ["test", "filesystems", "--all"],
        ["test", "filesystems", "--job", "pull", "--all"],
        ["test", "filesystems", "--job", "nosuch", "--all"],
        ["test", "filesystems", "--job", "nosuch", "--input", "tank//a"],
    ],
)
def test_wrong_usage_is_status_2(config: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["--config", str(config), *arguments]).exit_code == 2


@pytest.mark.parametrize("what", ["listen off", "listen on :6060", "activity-trace host:6060"])
def test_what_there_is_instead_of_pprof_is_told(what: str) -> None:
    result = CliRunner().invoke(app, ["pprof", *what.split()])
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("zrepl-trio: pprof ")
    assert "zrepl-trio status" in result.stderr


def test_a_config_that_is_missing_is_one_line_and_status_4(tmp_path: Path) -> None:
    done = zrepl_trio("run", "--config", str(tmp_path / "none.yml"))
    assert done.returncode == ExitCode.CONFIG
    assert len(done.stderr.splitlines()) == 1
    assert "none.yml" in done.stderr
    assert done.stdout == ""


@contextmanager
def unreadable() -> Iterator[Path]:
    """A config that is not for us to read, not even when we are root."""
    with scratch() as directory:
        config = directory / "zrepl.yml"
        config.write_text(PLACES.format(runtime=directory))
        config.chmod(0)
        directory.chmod(0o755)
        if os.geteuid() != 0:
            yield config
            return
        # The real uid too: access(2), by which parsers of command lines like to look, goes by it.
        os.setresuid(54321, 54321, 0)
        try:
            yield config
        finally:
            os.setresuid(0, 0, 0)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("run", ExitCode.CONFIG),
        ("run --once", ExitCode.CONFIG),
        ("daemon", ExitCode.CONFIG),
        ("plan", ExitCode.CONFIG),
        ("status", ExitCode.CONFIG),
        ("signal wakeup pull", ExitCode.CONFIG),
        ("version --show daemon", ExitCode.CONFIG),
        ("migrate replication-cursor:v1-v2", ExitCode.CONFIG),
        ("test filesystems --job pull --all", ExitCode.CONFIG),
        ("configcheck", ExitCode.FAILED),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(command: str, status: int) -> None:
    for module in ("localzfs", "migrate", "plan", "run", "signal", "status", "testcmd", "version"):
        # Imported late by the commands, and perhaps not for that user to read either.
        importlib.import_module(f"zrepl_trio.cli.{module}")
    for arguments in (f"{command} --config FILE", f"--config FILE {command}"):
        with unreadable() as config:
            result = CliRunner().invoke(app, arguments.replace("FILE", str(config)).split())
        assert result.stderr == f"{config}: cannot read it: Permission denied\n"
        assert result.exit_code == status


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "1:2: not YAML"),
        ("hello", "1:1: the file must hold a mapping"),
        ("jobs: 5\n", "1:7: jobs: must be a list"),
        ("jobs: [{name: [a], type: source}]\n", "jobs[0].name: "),
        ("jobs: [{name: a, type: frob}]\n", "unknown type 'frob' (accepted: push, pull"),
    ],
)
def test_a_config_that_cannot_be_used_is_told_with_its_place_and_status_4(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text)
    result = CliRunner().invoke(app, ["status", "--config", str(path)])
    assert result.exit_code == ExitCode.CONFIG
    assert all(line.startswith(f"{path}:1:") for line in result.stderr.splitlines())
    assert says in result.stderr


def test_an_empty_config_has_nothing_to_run_once(tmp_path: Path) -> None:
    path = tmp_path / "empty.yml"
    path.write_text(PLACES.format(runtime=tmp_path / "run"))
    result = CliRunner().invoke(app, ["run", "--once", "--config", str(path)])
    assert result.exit_code == ExitCode.USAGE
    assert (
        result.stderr
        == "zrepl-trio: run --once: the config has no active (push or pull or snap) job\n"
    )


def test_all_config_errors_come_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    jobs = "jobs:\n- {name: a, type: nonsense}\n- {name: b, type: pull}\nfrob: 1\n"
    path.write_text(jobs + PLACES.format(runtime=tmp_path / "run"))
    done = zrepl_trio("run", "--config", str(path))
    assert done.returncode == ExitCode.CONFIG
    lines = done.stderr.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"{path}:") for line in lines)
    assert "Traceback" not in done.stderr


HOOKED = """
- name: {name}
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting:
    {{type: periodic, interval: 1h, prefix: a, hooks: [{{type: {hook}, dsn: {dsn}, filesystems: {{"<": true}}}}]}}
  pruning: {{keep: [{{type: last_n, count: 1}}]}}
"""


WITHOUT_CLIENTS = """
import sys
sys.modules["psycopg"] = sys.modules["pymysql"] = None
from zrepl_trio.cli.app import main
main()
"""


def test_what_cannot_be_run_is_refused_by_name_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zrepl.yml"
    hooks = HOOKED.format(name="p", hook="postgres-checkpoint", dsn="host=h")
    hooks += HOOKED.format(name="m", hook="mysql-lock-tables", dsn="u@tcp(h)/")
    path.write_text(f"jobs:{hooks}{PLACES.format(runtime=tmp_path / 'run')}")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLIENTS, "run", "--config", path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == ExitCode.CONFIG
    assert "jobs[0].snapshotting.hooks[0].type" in done.stderr
    assert "jobs[1].snapshotting.hooks[0].type" in done.stderr


def test_run_once_of_a_job_that_is_not_there_is_wrong_usage(config: Path) -> None:
    done = zrepl_trio("run", "--once", "other", "--config", str(config))
    assert done.returncode == ExitCode.USAGE
    assert "other" in done.stderr
    assert "pull" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("logging", [False, True])
def test_run_once_tells_a_failure_once_unless_logs_were_asked_for(
    config: Path, logging: bool
) -> None:
    text = config.read_text().replace("host: h,", "host: h, ssh_command: /no/such/ssh,")
    if logging:
        text += "  logging: [{type: stdout, level: error, format: human}]\n"
    config.write_text(text)
    done = zrepl_trio("run", "--once", "--config", str(config))
    assert done.returncode == ExitCode.NOT_CONNECTED
    about = [line for line in done.stderr.splitlines() if "/no/such/ssh" in line]
    assert len(about) == 1 + logging
    assert sum("[pull][job]" in line for line in about) == logging
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "command", [["status"], ["signal", "wakeup", "pull"], ["signal", "reset", "x"]]
)
def test_without_a_daemon_one_line_says_so(config: Path, command: list[str]) -> None:
    done = zrepl_trio(*command, "--config", str(config))
    assert done.returncode == ExitCode.NOT_CONNECTED
    assert len(done.stderr.splitlines()) == 1
    assert "no daemon listens on" in done.stderr
    assert "zrepl-trio run" in done.stderr


def test_version_without_a_daemon_is_ours_alone(config: Path) -> None:
    done = zrepl_trio("version", "--config", str(config))
    assert done.returncode == 0
    assert done.stdout == f"client: zrepl-trio {__version__}\n"


def test_showing_one_version_shows_that_alone(config: Path) -> None:
    done = zrepl_trio("version", "--show", "client", "--config", "/nowhere")
    assert (done.returncode, done.stdout) == (0, f"client: zrepl-trio {__version__}\n")
    done = zrepl_trio("version", "--show", "daemon", "--config", str(config))
    assert (done.returncode, done.stdout) == (ExitCode.NOT_CONNECTED, "")
    assert "no daemon listens on" in done.stderr


def test_stdinserver_help_explains_authorized_keys() -> None:
    done = zrepl_trio("stdinserver", "--help")
    assert done.returncode == 0
    assert "authorized_keys" in done.stdout
    assert "restrict" in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigErrors([]), 4),
        (JobLocked("j", 1, "/p"), 5),
        (DaemonRunning("x"), 5),
        (DaemonUnreachable("x"), 3),
        (ConnectFailed("x"), 3),
        (Refused("x"), 1),
        (ZfsError("x"), 1),
    ],
)
def test_exit_statuses(error: ZreplError, code: int) -> None:
    assert exit_code(error) == code


def test_output_into_a_closed_pipe_is_no_traceback() -> None:
    script = f'"{sys.executable}" -m zrepl_trio --help | head -n 1'
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert "Usage" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["--help", "version --show client", "configcheck --json-schema"]
)
def test_output_onto_a_full_disk_is_one_line_and_status_1(command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zrepl_trio", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stderr == ("zrepl-trio: cannot write to standard output: No space left on device\n")
    assert done.returncode == ExitCode.FAILED
