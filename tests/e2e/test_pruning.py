"""Pruning through daemons and the command line: looked at first, done, explained, refused."""

from __future__ import annotations

import json
import subprocess

import pytest
import trio

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
                assert "1 snapshot that the job did not take is left" in await backup.cli("status")
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


PUSH = """\
- name: push
  type: push
  connect: {connect}
  filesystems: {{"tank/data": true}}
  snapshotting: {{type: manual}}
  pruning:
    keep_sender: [{{type: not_replicated, max_count: 2}}, {{type: last_n, count: 1, regex: "^z"}}]
    keep_receiver: [{{type: last_n, count: 1}}]
- name: sink
  type: sink
  serve: {{type: local, listener_name: disk}}
  root_fs: tank/sink
  recv: {{placeholder: {{encryption: inherit}}}}
"""


async def told(host: Host, *arguments: str) -> tuple[int, str]:
    """The exit status and all that is said."""
    command = [*host.python, "-m", "zrepl_trio", "--config", str(host.config), *arguments]
    done = await trio.run_process(
        command, env=dict(host.env), check=False, capture_stdout=True, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout.decode()


async def test_the_sender_of_a_push_is_looked_at_and_pruned_while_the_receiver_is_down() -> None:
    async with stage_with_pools() as stage:
        host = stage.source
        await host.run("zfs", "create", "tank/sink")
        here = "{type: local, listener_name: disk, client_identity: here}"
        host.write_config(PUSH.format(connect=here))
        await taken(stage, "z1")
        await host.cli("run", "--once", "push")
        await taken(stage, "z2", "z3", "z4")
        host.write_config(PUSH.format(connect='{type: tcp, address: "127.0.0.1:1"}'))

        status, shown = await told(host, "plan", "--prune", "push")
        assert "sender: 2 snapshots would go" in shown
        assert "receiver: it cannot be asked: " in shown
        assert "127.0.0.1:1" in shown
        assert status == 3
        status, shown = await told(host, "plan", "--prune", "push", "--json")
        (job,) = json.loads(shown[shown.index("{") :])["jobs"]
        assert [side["side"] for side in job["pruning"]] == ["sender"]
        assert "127.0.0.1:1" in job["error"]

        status, why = await told(host, "explain", f"{DATA}@z1")
        assert "job push (sender): goes, no rule keeps it" in why
        assert "job push: the receiver cannot be asked" in why
        assert status == 3

        status, shown = await told(host, "run", "--once", "push")
        assert "push: pruning (sender): tank/data: 2 of 4 snapshots destroyed" in shown
        assert "push: connect-failed" in shown
        assert status == 3
        assert await snapshots(host, DATA) == ["z3", "z4"]


async def test_who_asks_why_and_gets_no_answer_sees_it_by_the_exit_status() -> None:
    async with stage_with_pools() as stage:
        status, why = await told(stage.backup, "explain", f"{REPLICA}@z1")
        assert "job pull: cannot tell: " in why
        assert status == 3
