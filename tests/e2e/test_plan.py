"""`plan` beside running daemons: it says what the next run does, and changes nothing."""

from __future__ import annotations

import json

import pytest

from tests.e2e.stages import REPLICAS, data, outcome, snapshots, stage_with_pools
from zrepl_trio.demo.data import MIB, write_blob
from zrepl_trio.demo.host import Host, HostCommandFailed
from zrepl_trio.demo.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def everything(stage: Stage) -> list[str]:
    """All that zfs knows of both hosts, and the daemons' files."""
    return [await _state(host) for host in (stage.source, stage.backup)]


async def _state(host: Host) -> str:
    listed = await host.run("zfs", "get", "-Hp", "-t", "all", "all")
    names = await host.run("zfs", "list", "-H", "-t", "snapshot", "-o", "name")
    held = await host.run("zfs", "holds", "-H", *names.split()) if names.split() else ""
    files = sorted(str(path) for path in host.runtime.rglob("*"))
    return f"{listed}\n{held}\n{files}"


async def test_it_shows_the_next_run_and_changes_nothing() -> None:
    async with stage_with_pools() as stage:
        write_blob(data(stage) / "blob", 2 * MIB, seed=1)
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        async with stage.source.daemon(), stage.backup.daemon():
            before = await everything(stage)
            shown = await stage.backup.cli("plan")
            (job,) = json.loads(await stage.backup.cli("plan", "--json", "pull"))["jobs"]
            assert await stage.backup.cli("run", "--once", "--plan-only") == shown
            assert await everything(stage) == before
            assert "full send @1  2." in shown
            assert "makes the placeholder tank" in shown
            (filesystem,) = job["filesystems"]
            assert filesystem["filesystem"] == "tank/data"
            (step,) = filesystem["steps"]
            assert step["bytes"] > 2 * MIB
            assert (step["from"], step["to"], step["resumes"]) == (None, "@1", False)

            assert outcome(await stage.backup.replicate("pull")) == "done"
            assert "tank/data: up to date" in await stage.backup.cli("plan")

            # a replica with a life of its own
            await stage.backup.run("zfs", "snapshot", f"{REPLICAS}/tank/data@own")
            await stage.source.run("zfs", "snapshot", "tank/data@2")
            before = await everything(stage)
            with pytest.raises(HostCommandFailed):  # its status is not 0
                await stage.backup.cli("plan")
            assert await everything(stage) == before
        assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1", "own"]


async def test_a_peer_that_is_not_there_is_named_at_once() -> None:
    async with stage_with_pools() as stage:
        with pytest.raises(HostCommandFailed, match=r"cannot be reached|no daemon"):
            await stage.backup.cli("plan")
        with pytest.raises(HostCommandFailed, match=r"plan: no active job nope"):
            await stage.backup.cli("plan", "nope")


async def test_a_wish_for_what_is_not_there_ends_with_an_error() -> None:
    wish = ("--resolve", "tank/nope=keep_copy")
    said = "tank/nope: the sender offers no such filesystem"
    async with stage_with_pools() as stage:
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        async with stage.source.daemon():
            async with stage.backup.daemon():
                backup = stage.backup
                plan = (*backup.python, "-m", "zrepl_trio", "--config", str(backup.config), "plan")
                words = ("-c", '"$@" || echo "status $?"', "sh", *plan, *wish)
                shown = await backup.run("/bin/sh", *words)
                assert said in shown
                assert shown.endswith("status 1\n")
                with pytest.raises(HostCommandFailed, match=said):
                    await stage.backup.cli("signal", "wakeup", "pull", "--wait", *wish)
                # the rest of the run went on
                assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1"]
                assert said in await stage.backup.cli("status")
            with pytest.raises(HostCommandFailed, match=said):
                await stage.backup.cli("run", "--once", "pull", *wish)
            assert "tank/data: up to date" in await stage.backup.cli("plan")
