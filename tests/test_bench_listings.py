"""What the benches' `zfs` prints is what ours asks for: a listing with more or less is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benches.listings import write_listings, write_replicated
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.parse import BriefRows, DatasetRows, VersionRows

BENCHES = Path(__file__).parents[1] / "benches"


def test_the_listings_of_many_are_read(tmp_path: Path) -> None:
    write_listings(tmp_path, filesystems=3, snapshots=2)
    for side, rows in (("source", BriefRows()), ("puller", DatasetRows())):
        rows.feed((tmp_path / f"{side}.datasets").read_bytes())
        rows.end()
        assert len(rows.result()) >= 5
        versions = VersionRows()
        versions.feed((tmp_path / f"{side}.versions").read_bytes())
        versions.end()
        assert len(versions.result()) >= 3


def test_the_program_that_lists_answers_what_is_asked(tmp_path: Path) -> None:
    write_replicated(tmp_path, "app/many", "dst", filesystems=3, snapshots=2)

    def printed(words: tuple[str, ...]) -> bytes:
        environment = {"PATH": os.defpath, "BENCH_STATE": str(tmp_path)}
        program = [str(BENCHES / "manyzfs.sh"), *words[1:]]
        done = subprocess.run(program, env=environment, capture_output=True, check=True)
        return done.stdout

    brief, whole = BriefRows(), DatasetRows()
    brief.feed(printed(argv.list_briefly([DatasetPath.parse("app/many")], below=True)))
    brief.end()
    assert len(brief.result()) == 3
    whole.feed(printed(argv.list_datasets(DatasetPath.parse("dst"))))
    whole.end()
    assert [each.path for each in whole.result() if each.is_placeholder] == ["dst/app"]
    for root in ("app/many", "dst/app/many"):
        versions = VersionRows()
        versions.feed(printed(argv.list_versions_below(DatasetPath.parse(root))))
        versions.end()
        assert len(versions.result()) == 3
    assert len((tmp_path / "calls").read_text().split()) == 4
