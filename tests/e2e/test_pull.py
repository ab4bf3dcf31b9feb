"""Two daemons, real processes all of it: replication as a user sees it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from functools import partial

import psutil
import pytest
import trio

from tests.e2e.stages import (
    REPLICAS,
    data,
    filesystems,
    outcome,
    received,
    same_files,
    snapshots,
    stage_with_pools,
)
from tests.support.resources import until
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.demo.data import MIB, change_text, write_blob, write_texts
from zrepl_trio.demo.host import HostCommandFailed
from zrepl_trio.demo.openssh import find_sshd
from zrepl_trio.demo.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TRANSPORTS = [
    pytest.param(False, id="standin"),
    pytest.param(
        True,
        id="sshd",
        marks=[
            pytest.mark.sshd,
            pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed"),
        ],
    ),
]


@pytest.fixture(params=TRANSPORTS)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with stage_with_pools(use_sshd=request.param) as made:
        yield made


@pytest.fixture
async def plain_stage() -> AsyncIterator[Stage]:
    async with stage_with_pools() as made:
        yield made


async def let_go(stage: Stage) -> None:
    """Until the source has closed all connections, and their fds."""
    with trio.fail_after(20):
        while (await stage.source.status()).job("source").connections:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_full_then_incremental_then_nothing(stage: Stage) -> None:
    write_texts(data(stage), 50)
    write_blob(data(stage) / "blob", 3 * MIB, seed=1)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    async with stage.source.daemon() as source, stage.backup.daemon() as backup:
        daemons = [psutil.Process(process.pid) for process in (source, backup)]
        told = await stage.backup.replicate("pull")
        assert outcome(told) == "done", told.error
        await until(lambda: not any(daemon.children() for daemon in daemons))
        await let_go(stage)
        open_files = [daemon.num_fds() for daemon in daemons]
        (filesystem,) = filesystems(told)
        assert [(step.from_, step.to) for step in filesystem.steps] == [("", "@1")]
        assert filesystem.replicated > 3 * MIB

        change_text(data(stage))
        await stage.source.run("zfs", "snapshot", "tank/data@2")
        await stage.source.run("zfs", "snapshot", "tank/data@3")
        told = await stage.backup.replicate("pull")
        assert outcome(told) == "done", told.error
        (filesystem,) = filesystems(told)
        assert [(step.from_, step.to) for step in filesystem.steps] == [("@1", "@2"), ("@2", "@3")]
        assert filesystem.replicated < MIB

        told = await stage.backup.replicate("pull")
        assert outcome(told) == "done"
        assert [fs.steps for fs in filesystems(told)] == [()]
        shown = await stage.backup.cli("status")
        assert "all done" in shown
        # Nothing of a run stays with the daemons. (The first count may have met an fd on its way out.)
        await let_go(stage)
        await until(
            lambda: all(
                daemon.num_fds() <= before
                for daemon, before in zip(daemons, open_files, strict=True)
            )
        )
        assert not any(daemon.children() for daemon in daemons)
    assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1", "2", "3"]
    assert await same_files(stage)
    bookmarks = await stage.source.run("zfs", "list", "-H", "-t", "bookmark", "-o", "name")
    assert "#zrepl_CURSOR" in bookmarks


async def test_a_cut_transfer_resumes_in_the_same_run_without_sending_again(stage: Stage) -> None:
    whole, cut_at = 16 * MIB, 6 * MIB
    write_blob(data(stage) / "blob", whole, seed=1)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    stage.link.count()
    stage.link.plan(f"cut {cut_at}")
    async with stage.source.daemon(), stage.backup.daemon():
        told = await stage.backup.replicate("pull")
    assert outcome(told) == "done", told.error
    assert told.replication is not None
    assert len(told.replication.attempts) == 2
    assert filesystems(told)[0].steps[0].resumed
    assert whole < await received(stage) < whole + 2 * MIB
    assert await same_files(stage)


async def test_stopped_by_sigterm_in_mid_transfer_nothing_is_left_and_the_next_resumes(
    plain_stage: Stage,
) -> None:
    stage = plain_stage
    whole, cut_at = 16 * MIB, 6 * MIB
    write_blob(data(stage) / "blob", whole, seed=1)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    stage.link.count()
    stage.link.plan(f"stall {cut_at}")
    async with stage.source.daemon() as source:
        async with stage.backup.daemon() as backup:
            await stage.backup.signal("pull", "wakeup")
            await until(stage.link.stalled.exists)
            backup.send_signal(signal.SIGTERM)
            with trio.fail_after(30):
                assert await backup.wait() == 0
        stage.link.stalled.unlink()
        assert [path for path in stage.backup.runtime.rglob("*") if not path.is_dir()] == []
        await let_go(stage)
        async with stage.backup.daemon():
            told = await stage.backup.replicate("pull")
            assert outcome(told) == "done", told.error
            assert filesystems(told)[0].steps[0].resumed
        assert await received(stage) < whole + 4 * MIB  # pipes hold some of it
        source.send_signal(signal.SIGTERM)
        with trio.fail_after(30):
            assert await source.wait() == 0
    assert [path for path in stage.source.runtime.rglob("*") if not path.is_dir()] == []
    assert await same_files(stage)


async def test_one_filesystem_fails_and_the_others_arrive(plain_stage: Stage) -> None:
    stage = plain_stage
    for name in ("tank/data/good", "tank/data/torn"):
        await stage.source.run("zfs", "create", name)
        write_texts(data(stage, name), 5)
    for name in ("tank/data", "tank/data/good", "tank/data/torn"):
        await stage.source.run("zfs", "snapshot", f"{name}@1")
    async with stage.source.daemon(), stage.backup.daemon():
        assert outcome(await stage.backup.replicate("pull")) == "done"
        # The replica gets a life of its own, and the source loses what they had in common.
        torn = f"{REPLICAS}/tank/data/torn"
        for snapshot in ("local", "more"):
            await stage.backup.run("zfs", "snapshot", f"{torn}@{snapshot}")
        for name in ("tank/data", "tank/data/good", "tank/data/torn"):
            await stage.source.run("zfs", "snapshot", f"{name}@2")
        with pytest.raises(HostCommandFailed) as caught:
            await stage.backup.cli("signal", "wakeup", "pull", "--wait")
        assert "tank/data/torn" in str(caught.value)
        assert "@local" in str(caught.value)
        told = (await stage.backup.status()).job("pull")
        assert outcome(told) == "filesystem-errors"
        failed = [fs.name for fs in filesystems(told) if fs.error]
        assert failed == ["tank/data/torn"]
        shown = await stage.backup.cli("status")
        assert "some filesystem failed" in shown
        assert "@local" in shown
    assert await snapshots(stage.backup, f"{REPLICAS}/tank/data/good") == ["1", "2"]
    assert await snapshots(stage.backup, f"{REPLICAS}/tank/data/torn") == ["1", "local", "more"]


async def test_run_once_replicates_with_news_and_statuses(plain_stage: Stage) -> None:
    stage = plain_stage
    write_blob(data(stage) / "blob", MIB, seed=1)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    with pytest.raises(
        HostCommandFailed, match=r"the daemon on the other side cannot be reached|no daemon"
    ):
        await stage.backup.cli("run", "--once")
    async with stage.source.daemon():
        await stage.backup.cli("run", "--once")
        await stage.backup.cli("run", "--once", "pull")
        async with stage.backup.daemon():
            with pytest.raises(HostCommandFailed, match="already run by process"):
                await stage.backup.cli("run", "--once")
    assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1"]
    assert await same_files(stage)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_run_once_can_be_interrupted_and_the_next_resumes(
    plain_stage: Stage, number: int
) -> None:
    stage = plain_stage
    whole, cut_at = 16 * MIB, 6 * MIB
    write_blob(data(stage) / "blob", whole, seed=1)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    stage.link.count()
    stage.link.plan(f"stall {cut_at}")
    argv = [*stage.backup.python, "-m", "zrepl_trio", "--config", str(stage.backup.config)]
    async with stage.source.daemon(), trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            [*argv, "run", "--once"],
            env=dict(stage.backup.env),
            capture_stderr=True,
            check=False,
        )
        once: trio.Process = await nursery.start(run)
        await until(stage.link.stalled.exists, within_s=30)
        once.send_signal(number)
        with trio.fail_after(30):
            assert await once.wait() == ExitCode.INTERRUPTED
        stage.link.stalled.unlink(missing_ok=True)
        assert [path for path in stage.backup.runtime.rglob("*") if not path.is_dir()] == []
        await stage.backup.cli("run", "--once")
    assert await received(stage) < whole + 4 * MIB  # pipes hold some of it
    assert await same_files(stage)


async def test_a_missing_zfs_is_named(plain_stage: Stage) -> None:
    stage = plain_stage
    async with stage.source.daemon(), stage.backup.daemon():
        for program in (stage.backup.directory / "pools").rglob("bin/zfs"):
            program.unlink()
        told = await stage.backup.replicate("pull")
        assert outcome(told) == "failed"
        assert told.error
        assert "zfs" in told.error
        assert "PATH" in told.error or "installed" in told.error


async def test_a_receiver_out_of_space_says_so_and_goes_on_once_there_is_room(
    plain_stage: Stage,
) -> None:
    stage = plain_stage
    whole = 12 * MIB
    write_blob(data(stage) / "blob", whole, seed=1)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    await stage.backup.run("zfs", "set", f"quota={8 * MIB}", REPLICAS)
    stage.link.count()
    async with stage.source.daemon(), stage.backup.daemon():
        told = await stage.backup.replicate("pull")
        assert outcome(told) == "filesystem-errors"
        (filesystem,) = filesystems(told)
        assert f"{REPLICAS}/tank/data" in filesystem.error
        assert "space" in filesystem.error or "quota" in filesystem.error
        await stage.backup.run("zfs", "set", "quota=none", REPLICAS)
        told = await stage.backup.replicate("pull")
        assert outcome(told) == "done", told.error
    assert await same_files(stage)
