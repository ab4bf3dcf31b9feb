from __future__ import annotations

import os
from pathlib import Path

import pytest

from zrepl_trio.config.load import load_config
from zrepl_trio.errors import ConfigErrors

SNAP = """\
jobs:
- name: {name}
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting: {{type: manual}}
  pruning: {{keep: [{{type: last_n, count: 1}}]}}
"""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    return tmp_path / "zrepl.yml"


def names(path: Path) -> list[str]:
    return [job.name for job in load_config(path).config.jobs]


def fault(path: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    return str(problem)


def test_jobs_of_included_files_follow_the_files_own(main: Path) -> None:
    (main.parent / "jobs.d").mkdir()
    (main.parent / "one.yml").write_text(SNAP.format(name="one"))
    for name in ("b", "a"):
        (main.parent / f"jobs.d/{name}.yml").write_text(SNAP.format(name=name))
    (main.parent / "jobs.d/notes.txt").write_text("no yaml: [")
    (main.parent / "jobs.d/.hidden.yml").write_text("no yaml: [")
    main.write_text(SNAP.format(name="own") + f"include: [one.yml, {main.parent}/jobs.d]\n")
    assert names(main) == ["own", "one", "a", "b"]


def test_relative_paths_are_the_files_and_zrepls_reading_is_told(main: Path) -> None:
    (main.parent / "one.yml").write_text(SNAP.format(name="one"))
    main.write_text("include:\n- ./one.yml\n")
    (note,) = load_config(main).notes
    assert (note.line, note.column, note.key) == (2, 3, "include")
    assert "relative to this file" in note.message
    main.write_text(f"include:\n- {main.parent}/one.yml\n")
    assert load_config(main).notes == ()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("missing.yml", "cannot read"),
        ("text.txt", "does not end in .yml"),
        ("pipe.yml", "is no regular file"),
        ("nested.yml", "an included file cannot include others"),
        ("broken.yml", "not YAML"),
        ("list.yml", "the file must hold a mapping"),
        ("'a\\0'", "cannot read"),
    ],
)
def test_includes_that_are_refused(main: Path, entry: str, words: str) -> None:
    (main.parent / "text.txt").write_text("")
    os.mkfifo(main.parent / "pipe.yml")
    (main.parent / "nested.yml").write_text("include: [text.txt]\n")
    (main.parent / "broken.yml").write_text("a: [")
    (main.parent / "list.yml").write_text("- a")
    main.write_text(f"include: [{entry}]\n")
    assert words in fault(main)


def test_a_fault_in_an_included_file_has_its_place_there(main: Path) -> None:
    (main.parent / "one.yml").write_text(SNAP.format(name="one").replace("last_n", "last"))
    main.write_text("include: [one.yml]\n")
    text = fault(main)
    assert text.startswith(f"{main.parent}/one.yml:6:27: jobs[0].pruning.keep[0].type: ")


def test_a_name_is_unique_over_all_files(main: Path) -> None:
    (main.parent / "one.yml").write_text(SNAP.format(name="same"))
    main.write_text(SNAP.format(name="same") + "include: [one.yml]\n")
    text = fault(main)
    assert text.startswith(f"{main.parent}/one.yml:2:9: jobs[0].name: a job 'same' exists already")
    assert f"({main}:2)" in text


def test_the_global_section_of_an_included_file_is_checked_and_told_to_be_idle(main: Path) -> None:
    included = main.parent / "one.yml"
    main.write_text(f"include: [{included}]\n")
    included.write_text("global: {control: {sockpath: /elsewhere}}\n")
    loaded = load_config(main)
    assert loaded.config.global_.control.sockpath == "/var/run/zrepl/control"
    (note,) = loaded.notes
    assert (note.file, note.key) == (str(included), "global")
    included.write_text("global: {control: {path: /elsewhere}}\n")
    assert "unknown key" in fault(main)


def test_faults_of_all_files_come_together_in_order(main: Path) -> None:
    (main.parent / "one.yml").write_text(SNAP.format(name="_one"))
    main.write_text(f"globl: {{}}\ninclude: [{main.parent}/one.yml, missing.yml]\n")
    with pytest.raises(ConfigErrors) as caught:
        load_config(main)
    places = [(Path(p.file).name, p.line) for p in caught.value.problems]
    assert places == [("zrepl.yml", 1), ("zrepl.yml", 2), ("one.yml", 2)]
