"""A `zfs` that fails or prints what it should not, on either host: told in full, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.e2e.stages import REPLICAS, data, outcome, same_files, snapshots, stage_with_pools
from zrepl_trio.demo.data import MIB, write_blob, write_texts
from zrepl_trio.demo.host import Host

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


HANGING = {
    "send": ("source", "exec sleep 1000"),
    "recv": ("backup", "head -c 1000000 >/dev/null; exec sleep 1000"),
}


@pytest.mark.parametrize("command", list(HANGING))
async def test_a_zfs_that_hangs_in_a_stream_is_named_and_the_next_run_goes_on(command: str) -> None:
    host, script = HANGING[command]
    async with stage_with_pools() as stage:
        write_blob(data(stage) / "blob", 16 * MIB, seed=1)
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        broken = stage.source if host == "source" else stage.backup
        zfs = program(broken.directory)
        good = zfs.with_name("good-zfs")
        zfs.rename(good)
        # neither usage nor a dry run, which planning needs
        hangs = f'case "$*" in *-n*) ;; {command}*tank*) {script};; esac'
        zfs.write_text(f'#!/bin/sh\n{hangs}\nexec {good} "$@"\n')
        zfs.chmod(0o755)
        with short_limits(broken):
            async with stage.source.daemon(), stage.backup.daemon():
                await stage.backup.signal("pull", "wakeup")
                with trio.fail_after(10):
                    await stage.backup.cli("status")  # at any time
                told = await stage.backup.end_of_run("pull")
        assert outcome(told) == "filesystem-errors"
        assert told.invocation is not None
        assert f"zfs {command} " in told.invocation.error
        assert "tank/data" in told.invocation.error
        assert "did nothing for 3 s and was killed" in told.invocation.error
        good.rename(zfs)
        async with stage.source.daemon(), stage.backup.daemon():
            told = await stage.backup.replicate("pull")
            assert outcome(told) == "done", told.error
        assert await same_files(stage)


@contextmanager
def short_limits(host: Host) -> Iterator[None]:
    good = host.config.read_text()
    host.config.write_text(good.replace("global:\n", "global:\n  zfs: {stream_timeout: 3s}\n"))
    yield
    host.config.write_text(good)
