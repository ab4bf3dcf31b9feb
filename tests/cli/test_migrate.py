"""`migrate`, on ZFS in memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.zfs.test_memory import TestClock
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.cli.migrate import migrate_cursors, migrate_placeholders
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.model import Config
from zrepl_trio.endpoint.abstractions import LEGACY_CURSOR, cursor_name
from zrepl_trio.errors import ZfsError
from zrepl_trio.jobs.lock import JobLocked, held_lock
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import legacy_hash

MARK = "zrepl:placeholder"
R, TANK = DatasetPath("backup/r"), DatasetPath("backup/r/tank")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse_config(
        f"""
global: {{control: {{sockpath: {tmp_path}/run/control}}}}
jobs:
- name: j
  type: source
  serve: {{type: stdinserver, client_identities: [backup]}}
  filesystems: {{"tank<": true}}
  snapshotting: {{type: manual}}
- name: k
  type: source
  serve: {{type: stdinserver, client_identities: [other]}}
  filesystems: {{"tank/both": true}}
  snapshotting: {{type: manual}}
- name: in
  type: sink
  root_fs: backup/r
  serve: {{type: stdinserver, client_identities: [app]}}
"""
    ).config


@pytest.fixture
async def zfs() -> MemoryZfs:
    return MemoryZfs(rng=random.Random(0), clock=TestClock(), pools=["tank", "backup"])


@pytest.fixture
async def receiver(zfs: MemoryZfs) -> MemoryZfs:
    zfs.add_filesystem(R)
    zfs.add_filesystem(TANK, {MARK: legacy_hash(TANK)})
    zfs.add_filesystem(TANK.child("real"), {MARK: legacy_hash(TANK)})
    zfs.add_filesystem(TANK.child("new"), {MARK: "on"})
    zfs.add_filesystem("backup/elsewhere", {MARK: legacy_hash("backup/elsewhere")})
    return zfs


async def marks(zfs: MemoryZfs) -> dict[str, str]:
    return {d.path: d.placeholder_value for d in await zfs.datasets() if d.placeholder_value}


@pytest.mark.parametrize("dry_run", [True, False])
async def test_old_placeholders_below_the_root_get_todays_mark(
    receiver: MemoryZfs, config: Config, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    before = await marks(receiver)
    assert await migrate_placeholders(receiver, config, dry_run=dry_run) is ExitCode.DONE
    assert await marks(receiver) == before | ({} if dry_run else {TANK: "on"})
    assert capsys.readouterr().out.splitlines() == [
        "ignoring job 'j' (1/3, type source)",
        "ignoring job 'k' (2/3, type source)",
        'job "in" => migrate filesystems below root_fs "backup/r"',
        '\t"backup/r" ... unchanged (placeholder=false)',
        f'\t"backup/r/tank" ... migrate (placeholder=true) (old value = "{legacy_hash(TANK)}")',
        '\t"backup/r/tank/new" ... unchanged (placeholder=true)',
        '\t"backup/r/tank/real" ... unchanged (placeholder=false)',
    ]


async def test_a_root_that_is_not_there_has_no_filesystems(
    zfs: MemoryZfs, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await migrate_placeholders(zfs, config, dry_run=False) is ExitCode.DONE
    assert capsys.readouterr().out.endswith('root_fs "backup/r"\n\tno filesystems\n')


async def test_one_that_cannot_be_marked_is_named_and_status_1(
    receiver: MemoryZfs, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(call: str, _dataset: str) -> None:
        if call == "set_properties":
            raise ZfsError("permission denied")

    receiver.before = fail
    assert await migrate_placeholders(receiver, config, dry_run=False) is ExitCode.FAILED
    assert '\t"backup/r/tank" ... error: permission denied\n' in capsys.readouterr().out


async def test_nothing_is_marked_while_a_daemon_receives_there(
    receiver: MemoryZfs, config: Config, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    with held_lock(str(tmp_path / "run"), "in"), pytest.raises(JobLocked):
        await migrate_placeholders(receiver, config, dry_run=False)
    assert (await marks(receiver))[TANK] == legacy_hash(TANK)
    assert await migrate_placeholders(receiver, config, dry_run=False) is ExitCode.DONE


@pytest.fixture
async def sender(zfs: MemoryZfs) -> MemoryZfs:
    """Below tank: done (its new cursor has caught up), behind (it has not), plain (no old one) and
    both (two jobs'), with an old cursor each but plain."""
    for name in ("behind", "both", "done", "plain"):
        path = zfs.add_filesystem(f"tank/{name}")
        await zfs.snapshot(path, "1")
        (version,) = await zfs.versions(path)
        if name != "plain":
            await zfs.bookmark(path, version, LEGACY_CURSOR)
        if name != "behind":
            await zfs.bookmark(path, version, cursor_name(path, version.guid, "j"))
    return zfs


@pytest.mark.parametrize("dry_run", [True, False])
async def test_first_cursors_go_where_todays_has_caught_up(
    sender: MemoryZfs, config: Config, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    assert await migrate_cursors(sender, config, dry_run=dry_run) is ExitCode.FAILED
    left = [
        path
        for path, versions in (await sender.versions_below([DatasetPath("tank")])).items()
        if any(v.name == LEGACY_CURSOR for v in versions)
    ]
    assert sorted(left) == ["tank/behind", "tank/both", *(["tank/done"] if dry_run else [])]
    heading, *blocks = capsys.readouterr().out.split("INSPECT FILESYSTEM ")
    assert heading == (
        "ignoring job 'in' (3/3, type sink), not supposed to create v1 replication cursors\n"
    )
    told = {block.split('"')[1]: block.splitlines()[1:] for block in blocks}
    assert told["backup"] == ["no job's Filesystems filter matches", "FILESYSTEM SKIPPED"]
    assert told["tank/plain"] == [
        'identified owning job "j"',
        'no v1 replication cursor found for filesystem "tank/plain"',
        "FILESYSTEM SKIPPED",
    ]
    assert told["tank/behind"][-1].startswith("MIGRATION FAILED: tank/behind#zrepl_replication_")
    assert told["tank/both"] == [told["tank/both"][0]]
    assert told["tank/both"][0].startswith("MIGRATION FAILED: jobs 'j' and 'k' all send tank/both")
    assert ("DRY RUN" in told["tank/done"]) is dry_run
    assert told["tank/done"][-1] == 'FILESYSTEM "tank/done" COMPLETE'
