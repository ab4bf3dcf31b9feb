"""`takeover`, on ZFS in memory: what it says, and that it changes nothing."""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path

import pytest

from tests.zfs.test_memory import TestClock
from zrepl_trio.cli.takeover import takeover, text_of
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.control.socket import DaemonRunning
from zrepl_trio.endpoint.abstractions import LEGACY_CURSOR, cursor_name, last_received_tag, step_tag
from zrepl_trio.endpoint.aside import copy_name
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import legacy_hash

JOBS = """
- name: out
  type: source
  serve: {type: stdinserver, client_identities: [backup]}
  filesystems: {"tank<": true, "tank/scratch<": false}
  snapshotting: {type: manual}
- name: in
  type: sink
  root_fs: backup/r
  serve: {type: stdinserver, client_identities: [app]}
"""
REFUSED = """\
- name: snap
  type: snap
  filesystems: {"tank<": true}
  snapshotting: {type: periodic, interval: 1h, prefix: a, hooks: [
    {type: postgres-checkpoint, dsn: "host=h", filesystems: {"<": true}}]}
  pruning: {keep: [{type: regex, regex: ".*"}]}
"""
READS = {"datasets", "dataset", "versions", "versions_below", "holds", "decode_token", "features"}


def loaded(tmp_path: Path, jobs: str = JOBS) -> LoadedConfig:
    head = f"global: {{control: {{sockpath: {tmp_path}/control}}}}\n"
    return parse_config(f"{head}jobs:\n{jobs.strip()}\n")


@pytest.fixture
async def zfs() -> MemoryZfs:
    made = MemoryZfs(rng=random.Random(0), clock=TestClock(), pools=["tank", "backup"])
    for name in ("tank/a", "tank/scratch"):
        path = made.add_filesystem(name)
        await made.snapshot(path, "1")
        (version,) = await made.versions(path)
        await made.bookmark(path, version, cursor_name(path, version.guid, "out"))
        await made.bookmark(path, version, cursor_name(path, version.guid, "gone"))
        await made.bookmark(path, version, LEGACY_CURSOR)
        await made.hold(path, ["1"], step_tag("gone"))
    await made.snapshot(DatasetPath("tank"), "1")
    made.add_filesystem("backup/r/app", {"zrepl:placeholder": "on"})
    made.add_filesystem("backup/r/stranger")
    made.add_filesystem(
        "backup/r/app/tank", {"zrepl:placeholder": legacy_hash("backup/r/app/tank")}
    )
    replica = made.add_filesystem("backup/r/app/tank/a")
    await made.snapshot(replica, "1")
    return made


async def test_it_tells_each_job_and_changes_nothing(zfs: MemoryZfs, tmp_path: Path) -> None:
    async def picture() -> object:
        every = await zfs.datasets()
        versions = {d.path: await zfs.versions(d.path) for d in every}
        names = {p: [v.name for v in vs if v.is_snapshot] for p, vs in versions.items()}
        holds = [await zfs.holds(p, some) for p, some in names.items() if some]
        return every, versions, holds

    before = copy.deepcopy(await picture())
    zfs.calls.clear()
    report = await takeover(zfs, loaded(tmp_path), environ={})
    assert {call.split()[0] for call in zfs.calls} <= READS
    # datasets; the versions, one process a tree; holds on the one filesystem admitted that has any
    assert len(zfs.calls) == 3
    assert await picture() == before

    out, into = report.jobs
    assert {f.dataset: f.outlook.name for f in out.findings} == {
        "tank": "FIRST",
        "tank/a": "CONTINUES",
    }
    assert out.others == {"gone": 2}
    assert "job 'gone' is not in this config" in out.remarks[0]
    assert {f.dataset: f.outlook.name for f in into.findings} == {
        "backup/r/app/tank": "NOTHING",
        "backup/r/app/tank/a": "CONTINUES",
    }
    assert into.remarks == ["backup/r/stranger is no client's of this job: it stays as it is"]
    assert report.continues


async def test_the_text_has_it_all_and_ends_with_what_to_do(zfs: MemoryZfs, tmp_path: Path) -> None:
    report = await takeover(zfs, loaded(tmp_path), environ={})
    lines = list(text_of(report))
    text = "\n".join(lines)
    assert "job 'out' (source): 1 continues incrementally, 1 first replication" in text
    assert "  tank/a: continues incrementally from @1 (guid 0x" in text
    assert "never touched: 'gone' 2" in text
    assert "Read differently from zrepl:" in text
    assert "recv -u" in text
    assert "systemctl disable --now zrepl" in text
    assert lines[-7] == "Nothing was changed. Next:"
    assert "zrepl-trio stdinserver" in lines[-5]
    assert "zrepl-trio plan" not in text  # no job of this host is an active one
    parsed = json.loads(json.dumps(report.to_json()))
    assert parsed["Continues"] is True
    assert parsed["Jobs"][0]["Filesystems"][1]["Outlook"] == "continues"


async def test_a_copy_that_was_set_aside_gets_no_advice_that_would_destroy_it(
    zfs: MemoryZfs, tmp_path: Path
) -> None:
    copied = copy_name(DatasetPath("backup/r/app/tank/a"), "20261126T030000Z")
    zfs.add_filesystem(copied)
    for name in ("1", "own"):
        await zfs.snapshot(copied, name)
    await zfs.hold(copied, ["1"], last_received_tag("in"))
    report = await takeover(zfs, loaded(tmp_path), environ={})
    text = "\n".join(text_of(report))
    assert f"  {copied}: nothing to do: a copy that was set aside" in text
    assert "rollback" not in text
    assert report.continues


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("root_fs: backup/r", "root_fs: backup/none", "root_fs backup/none does not exist"),
        ("tank<", "backup/r<", "backup/r/stranger: cannot continue"),
        ("\n- name: in\n", f"\n{REFUSED}- name: in\n", "will refuse"),
    ],
)
async def test_what_stands_in_the_way_is_told_instead_of_the_next_steps(
    zfs: MemoryZfs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    said: str,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    report = await takeover(zfs, loaded(tmp_path, JOBS.replace(old, new)), environ={})
    text = "\n".join(text_of(report))
    assert said in text
    assert not report.continues
    assert "systemctl" not in text
    assert text.endswith("First mend what is refused or cannot continue, and look again.")


async def test_variables_of_zrepls_that_have_no_effect_are_told(
    zfs: MemoryZfs, tmp_path: Path
) -> None:
    environ = {"ZREPL_ZFS_DEBUG": "1", "ZREPL_REPLICATION_MAX_ATTEMPTS": "2"}
    report = await takeover(zfs, loaded(tmp_path), environ=environ)
    assert [note.partition(" ")[0] for note in report.notes if "environment" in note] == [
        "ZREPL_ZFS_DEBUG"
    ]
    assert report.continues
    with pytest.raises(Refused, match="ZREPL_MAX_HOOK_LOG_SIZE='x'"):
        await takeover(zfs, loaded(tmp_path), environ={"ZREPL_MAX_HOOK_LOG_SIZE": "x"})


async def test_a_directory_that_zrepl_takes_and_we_do_not_is_told(
    zfs: MemoryZfs, tmp_path: Path
) -> None:
    tmp_path.chmod(0o750)
    report = await takeover(zfs, loaded(tmp_path), environ={})
    assert any(f"run: chmod 0700 {tmp_path}" in text for text in report.refused)
    assert not report.continues
    tmp_path.chmod(0o700)
    assert (await takeover(zfs, loaded(tmp_path), environ={})).refused == []


async def test_it_does_not_look_beside_a_daemon(zfs: MemoryZfs, tmp_path: Path) -> None:
    from tests.control.test_alone import ZREPL, answering

    async with answering(str(tmp_path / "control"), {"/version": lambda _body: ZREPL}):
        with pytest.raises(DaemonRunning, match="systemctl stop zrepl"):
            await takeover(zfs, loaded(tmp_path), environ={})
    assert zfs.calls[-1].split()[0] != "datasets"
