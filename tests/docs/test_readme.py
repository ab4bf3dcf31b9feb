"""What README.md and docs/ say is so. The quick start's steps are walked in tests/e2e/test_readme.py."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from tests.support.docs import ROOT, block, blocks
from zrepl_trio import __version__
from zrepl_trio.cli.app import EXITS, app
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.rules import ConflictResolution
from zrepl_trio.config.support import unsupported
from zrepl_trio.emulate.sandbox import Sandbox

README = (ROOT / "README.md").read_text()
WALK = ROOT / "tests/e2e/test_readme.py"
DOCUMENTS = ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]


ANY = {
    "type": "snap",
    "filesystems": {"tank<": True},
    "snapshotting": {"type": "manual"},
    "pruning": {"keep": [{"type": "regex", "regex": ".*"}]},
}
"""A job, but for its name."""


def texts_in(path: Path) -> set[str]:
    """All literal texts of a Python file."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def spans(document: str) -> Iterator[str]:
    """Its `code spans`."""
    prose = re.sub(
        r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE
    )
    for found in re.findall(r"`([^`]+)`", prose):
        yield " ".join(found.split())


def test_every_block_of_the_readme_is_used_by_a_test() -> None:
    used = texts_in(Path(__file__)) | texts_in(WALK)
    unused = [f"README.md:{each.line}" for each in blocks("README.md") if each.name not in used]
    assert unused == []


def test_blocks_of_the_other_documents_are_of_a_tested_kind() -> None:
    targets = make_targets()
    for document in DOCUMENTS[1:]:
        for each in blocks(document):
            where = f"{document}:{each.line}"
            match each.language:
                case "sh":
                    for line in each.text.replace("\\\n", "").splitlines():
                        words = shlex.split(line.partition("#")[0].partition("|")[0])
                        if words[:1] == ["zrepl-trio"]:
                            parse_command(words[1:])
                            continue
                        assert words[:1] == ["make"], where
                        assert [w for w in words[1:] if "=" not in w and w not in targets] == []
                case "yaml" if document == "docs/monitoring.md":
                    pass  # all of them are read by tests/docs/test_monitoring.py
                case "yaml" if document.startswith(
                    ("docs/job", "docs/hooks", "docs/retention", "docs/simulate")
                ):
                    loaded = parse_config(each.text)
                    assert unsupported(loaded) == [], where
                case "yaml" if document == "docs/plan.md":
                    ConflictResolution.model_validate(
                        yaml.safe_load(each.text)["conflict_resolution"]
                    )
                case "yaml":  # loaded by tests/config/test_docs.py, which knows but two
                    assert document == "docs/config.md", where
                    assert each.text.startswith(("filesystems:", "root_fs: backup/hosts")), where
                case _:
                    assert each.language == "", where  # a picture, or what a command printed


def test_what_the_pages_of_the_jobs_quote_is_really_said() -> None:
    sources = [path.read_text() for path in (ROOT / "zrepl_trio").rglob("*.py")]
    joined = re.sub(r"[\"']\s+f?[\"']", "", "\n".join(sources))  # texts over several lines
    joined = joined.replace(r"\s+", " ")
    for page in [*sorted((ROOT / "docs").glob("job-*.md")), ROOT / "docs/retention.md"]:
        table = page.read_text().partition("| what it says | what to do |\n| --- | --- |\n")[2]
        assert table, page
        for row in table.partition("\n\n")[0].splitlines():
            for said in re.findall(r"`([^`]+)`", row.split("|")[1]):
                assert said in joined, f"{page}: {said}"


def parse_command(words: list[str]) -> None:
    """Fails unless `zrepl-trio` has that command with those options."""
    command: Any = typer.main.get_command(app)
    context = None
    while hasattr(command, "resolve_command"):
        context = command.make_context(None, list(words), parent=context)
        rest = [*context._protected_args, *context.args]
        _, command, words = command.resolve_command(context, rest)
    command.make_context(None, list(words), parent=context)


def looks(document: str) -> Iterator[str]:
    """Its commands that look at a config, and need neither root nor a daemon, each as it stands."""
    typed = (
        line
        for each in blocks(document)
        if each.language in {"sh", ""}
        for line in each.text.splitlines()
    )
    for command in (*typed, *spans(document)):
        line = command.removeprefix("# ").strip()
        if re.match(r"zrepl-trio (test filesystems|configcheck)( |$)", line):
            yield line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_look_at_a_config_work_as_they_are_written(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the page's own jobs; a name that it does not explain is a snap job's."""
    for name, value in Sandbox(tmp_path / "pools").environment(os.environ).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["zpool", "create", "tank"], check=True)
    own = [
        job
        for each in blocks(document)
        if each.language == "yaml" and each.text.startswith("jobs:")
        for job in yaml.safe_load(each.text)["jobs"]
    ]
    for line in looks(document):
        command, *words = shlex.split(re.split(r" [>|]", line)[0])
        job = words[words.index("--job") + 1] if "--job" in words else "any"
        known = [each for each in own if each["name"] == job][:1]
        (tmp_path / "zrepl.yml").write_text(
            yaml.safe_dump({"jobs": known or [ANY | {"name": job}]})
        )
        result = CliRunner().invoke(app, ["--config", "zrepl.yml", *words])
        assert result.exit_code == 0, f"{command} {words}: {result.output}"


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_two_commands_are_make_targets() -> None:
    lines = [line.partition("#")[0].strip() for line in block("make").splitlines()]
    assert lines == ["make demo", "make test"]
    for line, runs in zip(lines, ("zrepl-trio demo", "-m pytest"), strict=True):
        planned = subprocess.run(
            [*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert runs in planned.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_installing_as_told_gives_the_command_under_the_name_that_the_rest_uses(
    tmp_path: Path,
) -> None:
    opt, link = tmp_path / "opt dir/zrepl-trio", tmp_path / "bin/zrepl-trio"
    link.parent.mkdir()
    told = block("install")
    assert "/usr/local/bin/zrepl-trio " in block("authorized-keys")
    lines = (
        told.replace("/opt/zrepl-trio", shlex.quote(str(opt)))
        .replace("/usr/local/bin/zrepl-trio", shlex.quote(str(link)))
        .replace("python3 -m venv", f"{shlex.quote(sys.executable)} -m venv")
        # What it depends on is installed already where this test runs, so that no network is needed.
        .replace("pip install .", "pip install --no-deps --no-build-isolation --no-index .")
    )
    env = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib"), "PIP_QUIET": "1"}
    subprocess.run(["sh", "-e", "-c", lines], cwd=ROOT, env=env, check=True)
    done = subprocess.run(
        [link, "version", "--config", tmp_path / "none.yml"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"client: zrepl-trio {__version__}\n"
    where = [f"{opt}/bin/python3", "-c", "import zrepl_trio; print(zrepl_trio.__file__)"]
    found = subprocess.run(where, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(opt))


@pytest.mark.parametrize(
    ("name", "file"), [("source-config", "source.yml"), ("pull-config", "pull.yml")]
)
def test_the_configs_are_those_of_conf_without_the_comments(name: str, file: str) -> None:
    lines = [
        re.sub(r"(^|\s+)#.*", "", line) for line in (ROOT / "conf" / file).read_text().splitlines()
    ]
    assert block(name).splitlines() == [line for line in lines if line]


def test_the_errors_that_it_explains_are_ours_or_known_to_be_sshs() -> None:
    _, _, table = README.partition("| the line says |")
    explained = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(explained) >= 4
    said: set[str] = set()
    for path in (ROOT / "zrepl_trio").rglob("*.py"):
        said |= texts_in(path)
    assert [text for text in explained if not any(text in other for other in said)] == []


def test_every_exit_status_is_told_in_the_readme_and_by_help() -> None:
    for text in (README.partition("Its exit status: ")[2].partition(".\n")[0], EXITS):
        assert {int(number) for number in re.findall(r"\b\d+\b", text)} == set(ExitCode)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_text_exist(document: str) -> None:
    targets = make_targets()
    root = typer.main.get_command(app)
    for span in spans(document):
        words = span.split()
        if words[0] == "make":
            assert [word for word in words[1:] if "=" not in word and word not in targets] == []
        elif words[0] == "zrepl-trio" and len(words) > 1:
            _check_command(root, words[1:], span)


def _check_command(root: object, words: list[str], span: str) -> None:
    command = root
    options = {"--config", "--help"}
    for word in words:
        if word == "--":
            break
        inner = getattr(command, "commands", None)
        if word.startswith("--"):
            options |= {name for each in command.params for name in each.opts}  # type: ignore[attr-defined]
            assert word in options, span
        elif inner is not None:
            assert word in inner, span
            command = inner[word]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/security.md"])
def test_modules_named_in_the_text_exist(document: str) -> None:
    packages = {path.name for path in (ROOT / "zrepl_trio").iterdir() if path.is_dir()}
    for span in spans(document):
        found = re.fullmatch(r"([a-z_]+)\.([a-z_]+)(?:\.[A-Z]\w*)?", span)
        if found and found[1] in packages:
            assert (ROOT / "zrepl_trio" / found[1] / f"{found[2]}.py").exists(), span
