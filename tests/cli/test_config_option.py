"""`--config`: where it may stand, which one counts, and who needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.commands import COMMANDS, PULL
from zrepl_trio.cli.app import app
from zrepl_trio.cli.exitcodes import ExitCode


@pytest.mark.parametrize(
    "command",
    [
        "+ status",
        "status +",
        "+ signal wakeup pull",
        "signal + wakeup pull",
        "signal wakeup + pull",
        "signal reset pull +",
        "+ version",
        "version +",
        "+ run --once",
        "run + --once",
        "+ configcheck --print-current",
        "configcheck --print-current +",
        "configcheck --what jobs --print-current +",
    ],
)
def test_config_may_stand_on_either_side_of_the_command(config: Path, command: str) -> None:
    config.write_text(config.read_text().replace("host: h,", "host: h, ssh_command: /no/ssh,"))
    result = CliRunner().invoke(app, command.replace("+", f"--config {config}").split())
    assert result.exit_code != ExitCode.USAGE
    runtime = str(config.parent / "run")
    assert runtime in result.stdout + result.stderr or "/no/ssh" in result.stderr


@pytest.mark.parametrize(
    "command", ["+ test filesystems", "test + filesystems", "test filesystems +"]
)
def test_config_may_stand_between_a_group_and_its_command(config: Path, command: str) -> None:
    words = f"{command.replace('+', f'--config {config}')} --job pull --input tank"
    assert CliRunner().invoke(app, words.split()).stdout == "ACCEPT\ttank\tbackup/r/tank\n"


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"demo", "sandbox"}))
def test_every_command_of_zrepls_takes_a_config_as_zrepls_do(command: str) -> None:
    """Also those that read none: scripts may have it in all their lines."""
    help_ = CliRunner().invoke(app, [*command.split(), "--help"]).output
    assert help_.count("--config FILE") == 1


@pytest.mark.parametrize(
    "command",
    [
        "gencompletion bash FILE --config none.yml",
        "gencompletion bash --config none.yml FILE",
        "gencompletion --config none.yml bash FILE",
        "version --show client --config none.yml",
    ],
)
def test_a_config_that_a_command_does_not_need_is_not_looked_at(
    tmp_path: Path, command: str
) -> None:
    arguments = command.replace("FILE", str(tmp_path / "script")).split()
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_the_command_s_own_config_wins(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yml"
    other.write_text(PULL.format(runtime=tmp_path / "elsewhere"))
    result = CliRunner().invoke(app, ["--config", str(config), "status", "--config", str(other)])
    assert "elsewhere/control" in result.stderr
