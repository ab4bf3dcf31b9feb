"""A `zfs` that fails or prints what it should not, on either host: told in full, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.stages import REPLICAS, data, outcome, same_files, snapshots, stage_with_pools
from zrepl_trio.demo.data import write_texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BROKEN = {
    "failing": ("echo 'internal error: out of luck' >&2; exit 134", "internal error: out of luck"),
    "chatty": ("echo 'no zfs today'", "printed something unexpected"),
    "silent": ("exit 3", "failed with status 3 and said nothing"),
}


def program(directory: Path) -> Path:
    (found,) = (directory / "pools").rglob("bin/zfs")
    return found


@pytest.mark.parametrize("host", ["source", "backup"])
async def test_what_zfs_did_is_told_and_the_next_run_goes_on(host: str) -> None:
    async with stage_with_pools() as stage:
        write_texts(data(stage), 5)
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        zfs = program(stage.source.directory if host == "source" else stage.backup.directory)
        good = zfs.with_name("good-zfs")
        async with stage.source.daemon(), stage.backup.daemon():
            for script, says in BROKEN.values():
                zfs.rename(good)
                zfs.write_text(f"#!/bin/sh\n{script}\n")
                zfs.chmod(0o755)
                told = await stage.backup.replicate("pull")
                assert outcome(told) == "failed"
                assert told.invocation is not None
                assert says in told.invocation.error
                assert "zfs" in told.invocation.error
                assert says in await stage.backup.cli("status")
                good.rename(zfs)
            told = await stage.backup.replicate("pull")
            assert outcome(told) == "done", told.error
        assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1"]
        assert await same_files(stage)
