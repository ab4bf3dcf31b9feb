"""A serving daemon stopped in the middle of a transfer: an orderly end, and nothing is lost."""

from __future__ import annotations

import signal

import pytest
import trio

from tests.e2e.stages import REPLICAS, data, outcome, same_files, snapshots, transfers
from tests.e2e.stages import stage_with_pools as opened_stage
from tests.support.resources import until
from zrepl_trio.demo.data import MIB, write_blob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_the_source_stopped_by_sigterm_in_mid_transfer_ends_well_and_the_rest_follows() -> (
    None
):
    whole, stall_at = 24 * MIB, 16 * MIB
    async with opened_stage() as stage:
        write_blob(data(stage) / "blob", whole, seed=1)
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        stage.link.count()
        stage.link.plan(f"stall {stall_at}")
        async with stage.backup.daemon():
            async with stage.source.daemon() as source:
                await stage.backup.signal("pull", "wakeup")
                await until(stage.link.stalled.exists, within_s=30)
                source.send_signal(signal.SIGTERM)
                with trio.fail_after(30):
                    assert await source.wait() == 0
            left = [path for path in stage.source.runtime.rglob("*") if not path.is_dir()]
            assert left == []
            stage.link.stalled.unlink()
            # The puller waits for the link: the run that was cut goes on by itself.
            async with stage.source.daemon():
                told = await stage.backup.end_of_run("pull")
                assert outcome(told) == "done", told.error
                assert told.replication is not None
                assert len(told.replication.attempts) == 2
        assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1"]
        cut, rest = await transfers(stage)
        assert cut + rest > whole
        assert rest < whole - stall_at + 6 * MIB  # pipes held some of it
        assert await same_files(stage)
