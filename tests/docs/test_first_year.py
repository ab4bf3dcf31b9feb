"""docs/first-year.md: each example config has its year there, and its commands can be run."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.docs import ROOT, blocks
from zrepl_trio.cli.app import app

DOCUMENT = "docs/first-year.md"
TEXT = (ROOT / DOCUMENT).read_text()

CONFIGS = sorted(path.name for path in (ROOT / "conf").glob("*.yml"))
NOT_SIMULATED = {"tls.yml", "reference.yml", "monitoring.yml"}
"""The last one has the jobs of pull.yml."""

COMMANDS = [
    each.text for each in blocks(DOCUMENT) if each.text.startswith("zrepl-trio simulate --config")
]


def words_of(command: str) -> list[str]:
    program, *words = shlex.split(command.replace("\\\n", ""))
    assert program == "zrepl-trio"
    return words


def picture_of(command: str) -> str:
    words = words_of(command)
    return words[words.index("--plot") + 1]


def test_each_example_config_has_its_year_or_is_said_to_have_none() -> None:
    run = set(re.findall(r"conf/([\w.-]+\.yml)", "".join(COMMANDS)))
    assert run == set(CONFIGS) - NOT_SIMULATED
    for name in CONFIGS:
        assert f"[conf/{name}](../conf/{name})" in TEXT


@pytest.mark.parametrize("command", COMMANDS, ids=picture_of)
def test_a_command_can_be_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of it: it parses, and its hosts find one another."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TZ", "UTC")
    words = words_of(command)
    del words[words.index("--plot") :]
    result = CliRunner().invoke(app, [*words, "--for", "1h", "--log", str(tmp_path / "log")])
    assert result.exit_code == 0, result.output
    hosts = re.findall(r"--(?:config|peer) ([\w-]+)=", command)
    assert {line.split(":")[0].strip() for line in shown(command) if ":" in line} >= set(hosts)


def shown(command: str) -> list[str]:
    """The lines of datasets in what the page says that the command prints."""
    printed = next(
        after
        for before, after in zip(blocks(DOCUMENT), blocks(DOCUMENT)[1:], strict=False)
        if before.text == command
    )
    return printed.text.partition("behind:\n")[2].partition("\n\n")[0].splitlines()[1:]


@pytest.mark.parametrize("command", COMMANDS, ids=picture_of)
def test_a_year_has_its_picture(command: str) -> None:
    picture = ROOT / picture_of(command)
    assert f"]({picture.relative_to(ROOT / 'docs')})" in TEXT
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    assert drawn.rstrip().endswith("</svg>")
    assert len(drawn) < 150_000


def test_the_script_finds_all_of_them() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "first-years.py"))
    found = [each["command"] + "\n" for each in script["_YEAR"].finditer(TEXT)]
    assert found == COMMANDS
    assert "make first-years" in TEXT
