"""From config text to jobs: what takes their snapshots, and the hooks around it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.jobs.test_build import PULL, built, config, memory_world
from zrepl_trio.children import open_processes
from zrepl_trio.config.environment import Tuning
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.active import ActiveJob
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.snapshots.command_hook import CommandHook
from zrepl_trio.snapshots.mysql_hook import MysqlHook
from zrepl_trio.snapshots.postgres_hook import PostgresHook
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.zfs.names import DatasetPath

SNAPS = """
- name: snap
  type: snap
  filesystems: {"<": true}
  snapshotting: {type: periodic, interval: 10m, prefix: zrepl_}
  pruning: {keep: [{type: last_n, count: 1}]}
- name: manual
  type: snap
  filesystems: {"<": true}
  snapshotting: {type: manual}
  pruning: {keep: [{type: last_n, count: 1}]}
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [a]}
  filesystems: {"<": true}
  snapshotting: {type: cron, cron: "0 0 * * *", prefix: zrepl_}
- name: push
  type: push
  connect: {type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k}
  filesystems: {"<": true}
  snapshotting: {type: periodic, interval: 1h, prefix: zrepl_}
  pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
"""


async def test_jobs_have_the_snapshotter_that_their_config_wants() -> None:
    kinds = {job.name: job.status().snapshots for job in await built(f"jobs:{SNAPS}")}
    assert {name: report and report.kind for name, report in kinds.items()} == {
        "snap": "periodic",
        "manual": "manual",
        "source": "cron",
        "push": "periodic",
    }


async def test_a_snapshotter_gets_the_options_that_are_ours() -> None:
    text = "jobs:" + SNAPS.replace(
        "interval: 1h", "interval: 1h, atomic: true, skip_unchanged: yes"
    )
    found = {}
    for job in await built(text):
        snapper: object = getattr(job, "_snapper")  # noqa: B009
        if isinstance(snapper, Snapper):
            found[job.name] = (snapper._atomic, snapper._skip_unchanged)
    assert found["push"] == (True, True)
    assert found["source"] == (False, False)


async def test_the_environment_sets_limits_of_runs_and_hooks() -> None:
    hook = "{type: command, path: /x}"
    text = (
        PULL
        + f"""
- name: snap
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting: {{type: periodic, interval: 1h, prefix: a, hooks: [{hook}]}}
  pruning: {{keep: [{{type: regex, regex: ".*"}}]}}
"""
    )
    tuning = Tuning(attempts=5, reconnect_s=30, hook_log_bytes=100)
    async with open_processes() as processes:
        world = replace(memory_world(), processes=processes, tuning=tuning)
        pull, snap = build_jobs(config(text), world)
    assert isinstance(pull, ActiveJob)
    assert isinstance(pull.work, Replicating)
    assert (pull.work.options.attempts, pull.work.options.reconnect_s) == (5, 30)
    assert isinstance(snap, ActiveJob)
    assert snap._snapper is not None
    (built_hook,) = snap._snapper._hooks
    assert isinstance(built_hook, CommandHook)
    assert built_hook._most_logged_bytes == 100
    assert not built_hook._lists


async def test_every_hook_gets_all_of_its_section() -> None:
    text = """
jobs:
- name: s
  type: snap
  filesystems: {"tank<": true}
  snapshotting:
    type: cron
    cron: "0 * * * *"
    prefix: zrepl_
    atomic: true
    hooks:
    - {type: command, path: /x, timeout: 1s, filesystems: {"tank/c": true}}
    - {type: postgres-checkpoint, dsn: "host=h user=u", timeout: 2s, filesystems: {"tank/p": true}}
    - {type: mysql-lock-tables, dsn: "u@tcp(h)/", timeout: 3s, err_is_fatal: true, filesystems: {"tank/m": true}}
  pruning: {keep: [{type: regex, regex: ".*"}]}
"""
    with pytest.raises(Refused, match="nothing outside can be reached"):
        await built(text)
    async with open_processes() as processes:
        (job,) = build_jobs(config(text), replace(memory_world(), processes=processes))
    assert isinstance(job, ActiveJob)
    assert job._snapper is not None
    command, postgres, mysql = hooks = job._snapper._hooks
    assert isinstance(command, CommandHook)
    assert command._lists
    assert [type(hook) for hook in hooks] == [CommandHook, PostgresHook, MysqlHook]
    assert [hook.name for hook in hooks] == [
        "/x",
        "postgres-checkpoint h",
        "mysql-lock-tables h:3306",
    ]
    assert [getattr(hook, "_timeout_s") for hook in hooks] == [1, 2, 3]  # noqa: B009
    assert [hook.err_is_fatal for hook in hooks] == [False, False, True]
    for hook, name in ((command, "c"), (postgres, "p"), (mysql, "m")):
        admitted = [each for each in "cpm" if hook.filesystems.admits(DatasetPath(f"tank/{each}"))]
        assert admitted == [name]
