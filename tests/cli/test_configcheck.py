from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from zrepl_trio.cli.app import app
from zrepl_trio.config.load import load_config, parse_config

CONF = Path(__file__).parents[2] / "conf"


def configcheck(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zrepl_trio", "configcheck", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_right_config() -> None:
    done = configcheck("--config", CONF / "pull.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{CONF}/pull.yml: right, 1 job\n"


def test_a_config_without_jobs_is_right_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "zrepl.yml"
    path.write_text("")
    done = configcheck("--config", path)
    assert (done.returncode, done.stdout) == (0, f"{path}: right, 0 jobs\n")
    assert (
        done.stderr == f"warning: {path}: there are no jobs, the daemon would have nothing to do\n"
    )


def test_all_faults_come_at_once_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "zrepl.yml"
    path.write_text("jobs:\n- type: pull\n  nam: x\nglobl: {}\n")
    done = configcheck("--config", path)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 7
    assert all(line.startswith(f"{path}:") for line in lines)
    unknown = "jobs[0].nam: unknown key; did you mean `name`? (accepted: "
    assert [line for line in lines if line.startswith(f"{path}:3:3: {unknown}")]
    assert (
        lines[-1]
        == f"{path}:4:1: globl: unknown key; did you mean `global`? (accepted: global, jobs, include)"
    )


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a: &a [*a]", "\t", "jobs: 5", "\x00", "jobs: [{type: pull}"]
)
def test_hostile_files_are_one_clear_line_and_no_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zrepl.yml"
    path.write_text(text)
    done = configcheck("--config", path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{path}:1:")


def test_a_missing_file() -> None:
    done = configcheck("--config", "/nowhere/zrepl.yml")
    assert done.returncode == 1
    assert done.stderr == "/nowhere/zrepl.yml: cannot read it: No such file or directory\n"


def test_what_is_refused_is_told_and_right_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    words = ["configcheck", "--config", str(CONF / "snap.yml")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "warning: `run` will refuse this: " in result.stderr
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == 1


def test_what_has_no_effect_is_a_warning_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "zrepl.yml"
    text = (CONF / "pull.yml").read_text()
    path.write_text(
        text.replace("    port: 22\n", "    port: 22\n    transport_open_command: [a]\n")
    )
    done = configcheck("--strict", "--config", path)
    assert done.returncode == 0
    assert re.search(
        r"^warning: \S+ jobs\[0\]\.connect\.transport_open_command: has no effect",
        done.stderr,
        re.MULTILINE,
    )
    assert "refuse" not in done.stderr


def test_certificates_are_read_unless_told_otherwise() -> None:
    done = configcheck("--config", CONF / "tls.yml")
    assert done.returncode == 1
    assert "jobs[0].serve.ca: cannot read /etc/zrepl/tls/ca.crt" in done.stderr
    assert configcheck("--skip-cert-check", "--config", CONF / "tls.yml").returncode == 0


def test_an_old_config_is_printed_in_todays_form() -> None:
    path = CONF / "zrepl-0.0.x-pull.yml"
    done = configcheck("--print-current", "--config", path)
    assert done.returncode == 0
    assert parse_config(done.stdout).config == load_config(path).config
    assert f"note: {path}:19:3: jobs[0].mapping: of 0.0.x; today:\n" in done.stderr


def test_the_schema_is_a_schema_and_needs_no_config() -> None:
    done = configcheck("--json-schema", "--config", "/nowhere")
    assert done.returncode == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


@pytest.mark.parametrize("format_", ["yaml", "json"])
def test_the_whole_config_is_printed_with_its_defaults_and_loads_again(
    tmp_path: Path, format_: str
) -> None:
    done = configcheck("--config", CONF / "pull.yml", "--format", format_)
    assert (done.returncode, done.stderr) == (0, "")
    printed, meant = parse_config(done.stdout).config, load_config(CONF / "pull.yml").config
    assert printed.model_dump() == meant.model_dump()
    assert "dial_timeout" in done.stdout


@pytest.mark.parametrize(
    ("what", "keys"), [("all", ["global", "jobs"]), ("jobs", ["jobs"]), ("logging", ["global"])]
)
def test_a_part_stands_where_it_stands_in_the_whole(what: str, keys: list[str]) -> None:
    whole = json.loads(configcheck("--config", CONF / "pull.yml", "--format", "json").stdout)
    part = configcheck("--config", CONF / "pull.yml", "--format", "json", "--what", what).stdout
    assert sorted(json.loads(part)) == keys
    expected = whole
    if what == "jobs":
        expected = {"jobs": whole["jobs"]}
    elif what == "logging":
        expected = {"global": {"logging": whole["global"]["logging"]}}
    assert json.loads(part) == expected
