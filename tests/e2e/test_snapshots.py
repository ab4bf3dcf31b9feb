"""Daemons that take snapshots by themselves: a snap job, and a push that follows its own."""

from __future__ import annotations

import pytest

from tests.e2e.stages import snapshots, stage_with_pools
from zrepl_trio.demo.data import write_texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

JOBS = """\
- name: own
  type: snap
  filesystems: {"tank/own": true}
  snapshotting: {type: cron, cron: "* * * * * *", prefix: own_}
  pruning: {keep: [{type: regex, regex: ".*"}]}
- name: to_disk
  type: push
  connect: {type: local, listener_name: disk, client_identity: here}
  filesystems: {"tank/data": true}
  snapshotting: {type: periodic, interval: 3s, prefix: zrepl_}
  pruning:
    keep_sender: [{type: regex, regex: ".*"}]
    keep_receiver: [{type: regex, regex: ".*"}]
- name: disk
  type: sink
  serve: {type: local, listener_name: disk}
  root_fs: tank/sink
  recv: {placeholder: {encryption: inherit}}
"""


async def test_nobody_has_to_do_anything() -> None:
    async with stage_with_pools() as stage:
        host = stage.source
        write_texts(host.directory / "pools/tank/data", 5)
        for name in ("tank/own", "tank/sink"):
            await host.run("zfs", "create", name)
        host.write_config(JOBS)
        replica = "tank/sink/here/tank/data"

        async def names(dataset: str) -> list[str]:
            listed = await host.run("zfs", "list", "-H", "-o", "name", "-r", "tank")
            return await snapshots(host, dataset) if dataset in listed.split() else []

        async with host.daemon():
            found: list[str] = []
            while len(found) < 2:
                found = await names(replica)
            own = await names("tank/own")
            told = await host.cli("status")
        assert set(found) <= set(await snapshots(host, "tank/data"))
        assert all(name.startswith("zrepl_") for name in found)
        assert len(own) >= 2
        assert all(name.startswith("own_") for name in own)
        assert "own  snap" in told
        assert "snapshots: " in told
