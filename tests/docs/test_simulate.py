"""docs/simulate.md: its configs and commands do what it says."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.docs import ROOT, block
from zrepl_trio.cli.app import app
from zrepl_trio.simulate.outages import parse_outage
from zrepl_trio.simulate.report import FloorStory
from zrepl_trio.simulate.workload import DEFAULT, WORKLOAD_WORDS, parse_workload

DOCUMENT = "docs/simulate.md"
TEXT = (ROOT / DOCUMENT).read_text()


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("source", "pull"):
        (tmp_path / f"{name}.yml").write_text(block(name, DOCUMENT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    return tmp_path


def arguments(name: str) -> list[str]:
    """Of the one command in the block."""
    command, *words = shlex.split(block(name, DOCUMENT).replace("\\\n", ""))
    assert command == "zrepl-trio"
    return words


@pytest.mark.usefixtures("there")
def test_the_quick_look() -> None:
    result = CliRunner().invoke(app, arguments("look"))
    assert result.exit_code == 0, result.output
    assert "backup-srv:storage/backups/tank/db" in result.stdout
    assert "Nothing needed a person." in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_year_prints_what_the_page_shows(there: Path) -> None:
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(app, arguments("year"))
    assert result.exit_code == 0, result.output
    assert block("output", DOCUMENT) in result.stdout
    drawn = (there / "year.svg").read_text()
    assert drawn.startswith("<?xml")


@pytest.mark.usefixtures("there")
def test_the_document_has_the_keys_that_the_page_describes() -> None:
    outage = ["--outage", "link app-srv-backup-srv 2026-01-01 09:00 for 5h"]
    result = CliRunner().invoke(app, [*arguments("look")[:-1], "12h", *outage, "--json"])
    described = set(re.findall(r"`([a-z][a-z_]*)`", TEXT.partition("\n## For programs\n")[2]))
    document = json.loads(result.stdout)
    assert all(document[key] for key in ("links", "datasets", "troubles", "logged"))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    floor = FloorStory(host="a", job="sink", client="b", times=1, most=1, first=moment, last=moment)
    assert keys_of(document) | keys_of(floor.to_json()) == described - {
        "null",
        "conflict",
        "run",
        "snapshot",
        "pruning",
        "plan",
        "status",
        "warn",
        "error",
    }


def keys_of(value: object) -> set[str]:
    """All those of a document."""
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys_of(each)}
    return {key for each in value for key in keys_of(each)} if isinstance(value, list) else set()


def test_defaults_and_examples_are_those_of_the_program() -> None:
    for example in ("writes=500MiB", "rewrites=95%", "holds=30GiB", "hours=8-18", "days=mon-fri"):
        assert f"| `{example}` |" in TEXT
        assert example.partition("=")[0] in WORKLOAD_WORDS
        parse_workload(f"tank {example}")
    assert (DEFAULT.writes, DEFAULT.rewrites, DEFAULT.holds) == (64 << 20, 0.8, 20 << 30)
    shown = [line for line in TEXT.splitlines() if line.startswith("- `'link")]
    examples = [part.strip("`'") for line in shown for part in line[2:].split("`, `")]
    assert len(examples) == 6
    for text in examples:
        parse_outage(text, ["app-srv", "backup-srv", "a", "b"])
