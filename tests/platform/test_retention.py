"""Some compressed hours of everything that takes and destroys snapshots, on real OpenZFS: a snap job, a push
with a hook, a source and its pull with pruning of both sides, all by themselves."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.interop.daemons import Daemon, ours, running
from tests.interop.links import IDENTITY, linked
from tests.interop.pools import World
from tests.interop.sshd import Sshd
from tests.interop.waiting import until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]

RUNS = 4

WITHIN_S = 400.0
"""The guest is emulated: a zfs command takes tenths of a second there, and four jobs share it."""

APP = """\
global:
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
  logging: [{{type: stdout, level: info, format: human}}]
jobs:
- name: own
  type: snap
  filesystems: {{"zisource/own": true}}
  snapshotting: {{type: periodic, interval: 6s, prefix: own_}}
  pruning: {{keep: [{{type: last_n, count: 3}}]}}
- name: sending
  type: push
  filesystems: {{"zisource/sent": true}}
  snapshotting:
    type: periodic
    interval: 12s
    prefix: zrepl_
    hooks: [{{type: command, path: {directory}/hook, err_is_fatal: true}}]
  connect: {{type: local, listener_name: here, client_identity: me}}
  pruning:
    keep_sender: [{{type: not_replicated}}, {{type: last_n, count: 2}}]
    keep_receiver:
    - {{type: grid, grid: "1x1h(keep=all) | 24x1h", regex: "^zrepl_"}}
- name: sink
  type: sink
  serve: {{type: local, listener_name: here}}
  root_fs: zibackup/sink
  recv: {{placeholder: {{encryption: inherit}}}}
- name: offering
  type: source
  filesystems: {{"zisource/pulled": true}}
  snapshotting: {{type: cron, cron: "*/5 * * * * *", prefix: zrepl_}}
  serve: {serve}
  pruning: {{floor: [{{type: last_n, count: 2}}]}}
"""

BACKUP = """\
global:
  control: {{sockpath: {directory}/control}}
  logging: [{{type: stdout, level: info, format: human}}]
jobs:
- name: pulling
  type: pull
  connect: {connect}
  interval: 12s
  root_fs: zibackup/pull
  recv: {{placeholder: {{encryption: inherit}}}}
  pruning:
    keep_sender: [{{type: not_replicated}}]
    keep_receiver: [{{type: last_n, count: 3}}]
"""

HOOK = """\
#!/bin/sh
echo "$ZREPL_HOOKTYPE $ZREPL_SNAPNAME" >> {directory}/hooked
"""


def last_run(daemon: Daemon, job: str) -> dict[str, Any]:
    """The job's latest run that has ended, as told by `status`; it did not end badly."""
    status = daemon.jobs()[job]
    told: dict[str, Any] = status[status["type"]]
    run: dict[str, Any] = told["LastRun"] or {"Number": 0, "Outcome": "done"}
    assert run["Outcome"] == "done", run["Error"]
    return run


def runs(daemon: Daemon, job: str) -> int:
    """How many runs of the job have ended; none of them badly."""
    return int(last_run(daemon, job)["Number"])


def taken_at(snapshot: str) -> datetime:
    """What the name of a snapshot of the push says."""
    return datetime.strptime(f"{snapshot}+0000", "zrepl_%Y%m%d_%H%M%S_000%z")


def test_they_run_by_themselves_and_leave_what_they_should(
    world: World, sshd: Sshd, tmp_path: Path
) -> None:
    for name in ("own", "sent", "pulled"):
        world.run("zfs", "create", f"zisource/{name}")
    for name in ("sink", "pull"):
        world.run("zfs", "create", f"zibackup/{name}")
    world.run("zfs", "snapshot", "zisource/own@by-hand")
    app, backup, line = (tmp_path / name for name in ("app", "backup", "line"))
    for directory in (app, backup, line, app / "stdinserver"):
        directory.mkdir(mode=0o700)
    (app / "hook").write_text(HOOK.format(directory=app))
    (app / "hook").chmod(0o755)
    us = ours()
    with linked("ssh", line, sshd, pushes=False) as link:
        (app / "zrepl.yml").write_text(APP.format(directory=app, serve=link.serve))
        (backup / "zrepl.yml").write_text(BACKUP.format(directory=backup, connect=link.connect))
        sshd.force(us.stdinserver(app / "zrepl.yml", IDENTITY))
        with (
            running(us, app, world.environment) as sender,
            running(us, backup, world.environment) as puller,
        ):
            until(lambda: runs(sender, "own") >= RUNS, "runs of the snap job", WITHIN_S)
            until(lambda: runs(sender, "sending") >= RUNS, "runs of the push", WITHIN_S)
            until(lambda: runs(puller, "pulling") >= RUNS, "runs of the pull", WITHIN_S)
            last_push_began = datetime.fromisoformat(last_run(sender, "sending")["StartAt"])

    own = list(world.snapshots("zisource/own"))
    assert own[0] == "by-hand"  # nobody said that it may go
    assert 3 <= len(own) - 1 <= 4  # one may have been taken since the last pruning
    assert all(name.startswith("own_") for name in own[1:])

    hooked = (app / "hooked").read_text().splitlines()
    edges = [line.split()[0] for line in hooked]
    # the daemon's end may stop the last program before it has written
    whole = edges[: len(edges) // 2 * 2]
    assert whole == ["pre_snapshot", "post_snapshot"] * (len(edges) // 2)
    taken = list(dict.fromkeys(line.split()[1] for line in hooked))
    assert len(taken) >= RUNS
    sent = list(world.snapshots("zisource/sent"))
    replicas = list(world.snapshots("zibackup/sink/me/zisource/sent"))
    assert sent == taken[-len(sent) :]
    assert len(sent) >= 2
    # more may have been taken since, as many as time was
    assert len([name for name in sent if taken_at(name) < last_push_began]) <= 2
    assert replicas == taken[: len(replicas)]  # all of the last hour
    assert len(replicas) >= len(taken) - 2

    pulled = world.snapshots("zisource/pulled")
    replica = world.snapshots("zibackup/pull/zisource/pulled")
    assert len(pulled) >= 2  # the floor
    assert 3 <= len(replica) <= 5
    assert set(pulled.values()) & set(replica.values())
