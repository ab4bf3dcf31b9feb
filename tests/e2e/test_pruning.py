"""Pruning through daemons and the command line: looked at first, done, explained, refused."""

from __future__ import annotations

import json

import pytest

from tests.e2e.stages import REPLICAS, outcome, snapshots, stage_with_pools
from zrepl_trio.demo.host import Host, HostCommandFailed
from zrepl_trio.demo.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KEEPS_ALL = '[{type: regex, regex: ".*"}]'
DATA, REPLICA = "tank/data", f"{REPLICAS}/tank/data"


def rules(host: Host, key: str, text: str) -> None:
    before = host.config.read_text()
    assert f"{key}: {KEEPS_ALL}" in before
    host.config.write_text(before.replace(f"{key}: {KEEPS_ALL}", f"{key}: {text}"))


async def taken(stage: Stage, *names: str) -> None:
    for name in names:
        await stage.source.run("zfs", "snapshot", f"{DATA}@{name}")


async def test_both_sides_are_looked_at_pruned_and_explained() -> None:
    async with stage_with_pools() as stage:
        source, backup = stage.source, stage.backup
        rules(backup, "keep_sender", "[{type: not_replicated}, {type: last_n, count: 1}]")
        rules(backup, "keep_receiver", '[{type: last_n, count: 2, regex: "^z"}]')
        await taken(stage, "z1")
        async with source.daemon():
            await backup.cli("run", "--once")
            await taken(stage, "z2", "by-hand", "z3", "z4")
            # what is new is pruned by its own run already, so look before it
            shown = await backup.cli("plan", "--prune")
            assert "sender: 0 snapshots would go" in shown
            done = await backup.cli("run", "--once")
            assert done == ""
            assert await snapshots(source, DATA) == ["z4"]
            assert await snapshots(backup, REPLICA) == ["by-hand", "z3", "z4"]

            (job,) = json.loads(await backup.cli("plan", "--prune", "--json"))["jobs"]
            (filesystem,) = [
                each for each in job["pruning"][1]["filesystems"] if each["filesystem"] == DATA
            ]
            fates = {each["name"]: each["fate"] for each in filesystem["snapshots"]}
            assert fates == {"by-hand": "foreign", "z3": "kept", "z4": "kept"}

            why = await backup.cli("explain", f"{REPLICA}@z4")
            assert why == "job pull (receiver): kept by last_n 2 ^z\n"
            why = await backup.cli("explain", f"{REPLICA}@by-hand")
            assert "did not take it" in why
            with pytest.raises(HostCommandFailed, match="no job of this config prunes it"):
                await backup.cli("explain", f"{REPLICA}@z1")

            async with backup.daemon():
                told = await backup.replicate("pull")
                assert outcome(told) == "done"
                assert "1 snapshots that the job did not take are left" in await backup.cli(
                    "status"
                )
                await backup.cli("signal", "wakeup", "pull", "--wait", "--destroy-foreign")
                assert await snapshots(backup, REPLICA) == ["z3", "z4"]


async def test_a_floor_of_the_source_is_told_and_no_failure() -> None:
    async with stage_with_pools() as stage:
        source, backup = stage.source, stage.backup
        rules(backup, "keep_sender", "[{type: last_n, count: 1}]")
        source.config.write_text(
            source.config.read_text() + "  pruning: {floor: [{type: last_n, count: 3}]}\n"
        )
        await taken(stage, "1", "2", "3", "4", "5")
        async with source.daemon(), backup.daemon():
            assert outcome(await backup.replicate("pull")) == "done"
            assert await snapshots(source, DATA) == ["3", "4", "5"]
            shown = await backup.cli("status")
        assert "2 of 5 snapshots destroyed, 2 left alone" in shown
        assert "refused: kept by the floor of job 'source': last_n 3" in shown
        assert "the floor keeps" in source.log.read_text()
