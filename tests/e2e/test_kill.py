"""kill -9 of each process that takes part, in the middle of a transfer: the next run converges,
and what had arrived is not sent again, by the count of what came over the wire."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable

import psutil
import pytest
import trio

from tests.e2e.stages import (
    REPLICAS,
    data,
    outcome,
    same_files,
    snapshots,
    stage_with_pools,
    transfers,
)
from tests.support.resources import until
from zrepl_trio.demo.data import MIB, write_blob
from zrepl_trio.demo.openssh import find_sshd
from zrepl_trio.demo.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WHOLE = 56 * MIB
STALL_AT = 16 * MIB
"""Far enough from the end that `zfs send` cannot have written all: before the stall there may wait
its pipe (4 MiB with privilege), a socket's buffer (8 MiB) and what ssh has read ahead."""

SLACK = 2 * MIB
"""What may be sent twice, and what is counted besides the file: of the bytes before the stall all
but the last MIB are known to be kept when the kill comes, the rest is an unfinished record and the
stream's and the protocol's own."""


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with stage_with_pools() as made:
        yield made


def mine(stage: Stage, wanted: Callable[[list[str]], bool]) -> list[int]:
    """Pids, newest first, of the stage's processes whose arguments are wanted."""
    directory = str(stage.source.directory.parent)
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        words = process.info["cmdline"] or []
        if any(directory in word for word in words) and wanted(words):
            found.append((process.info["create_time"], process.pid))
    return [pid for _, pid in sorted(found, reverse=True)]


def zfs_command(stage: Stage, command: str) -> int:
    return mine(stage, lambda words: "zfs" in words and command in words)[0]


def newest_proxy(stage: Stage) -> int:
    return mine(stage, lambda words: "stdinserver" in words)[0]


def newest_session(stage: Stage) -> int:
    assert stage.sshd_pid is not None
    sessions = [
        (process.create_time(), process.pid)
        for process in psutil.Process(stage.sshd_pid).children(recursive=True)
        if process.name().startswith("sshd")
    ]
    return max(sessions)[1]


VICTIMS: dict[str, Callable[[Stage], int]] = {
    "ssh": lambda stage: int(stage.link.stalled.read_text()),
    "stdinserver": newest_proxy,
    "zfs-send": lambda stage: zfs_command(stage, "send"),
    "zfs-recv": lambda stage: zfs_command(stage, "recv"),
}


def kept(stage: Stage) -> int:
    """Bytes of the file that the receiving side has put away, which no kill can take."""
    files = (stage.backup.directory / "pools").rglob("recv/d.*")
    return sum(path.stat().st_size for path in files)


async def stalled_transfer(stage: Stage) -> None:
    """Begin a transfer, and return when it is stalled and what came before that is kept."""
    await stage.backup.signal("pull", "wakeup")
    await until(stage.link.stalled.exists, within_s=30)
    await until(lambda: kept(stage) > STALL_AT - MIB, within_s=30)


def prepare(stage: Stage) -> None:
    write_blob(data(stage) / "blob", WHOLE, seed=1)
    stage.link.count()
    stage.link.plan(f"stall {STALL_AT}")


async def converges(stage: Stage, victim: str) -> None:
    """The run that goes on, or the next one, ends well."""
    told = await stage.backup.end_of_run("pull")
    assert told.replication is not None
    interrupted = outcome(told) != "done" or len(told.replication.attempts) > 1
    # The proxy has passed its fds on and only waits: losing it costs nothing.
    assert interrupted or victim == "stdinserver"
    if outcome(told) != "done":
        told = await stage.backup.replicate("pull")
    assert outcome(told) == "done", told.error


async def arrived_once(stage: Stage) -> None:
    assert await snapshots(stage.backup, f"{REPLICAS}/tank/data") == ["1"]
    # what a cut connection still drains after the kill is in its own count, not in the next one's
    *cut, last = await transfers(stage)
    assert sum(cut) + last > WHOLE
    assert last < (WHOLE - STALL_AT + SLACK if cut else WHOLE + MIB)
    assert await same_files(stage)


@pytest.mark.parametrize("victim", VICTIMS)
async def test_killed_in_mid_transfer(stage: Stage, victim: str) -> None:
    prepare(stage)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    async with stage.source.daemon(), stage.backup.daemon():
        await stalled_transfer(stage)
        os.kill(VICTIMS[victim](stage), signal.SIGKILL)
        stage.link.stalled.unlink(missing_ok=True)
        await converges(stage, victim)
    await arrived_once(stage)


@pytest.mark.sshd
@pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed")
@pytest.mark.parametrize("victim", ["sshd-child", "stdinserver"])
async def test_killed_in_mid_transfer_over_sshd(victim: str) -> None:
    async with stage_with_pools(use_sshd=True) as stage:
        prepare(stage)
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        async with stage.source.daemon(), stage.backup.daemon():
            await stalled_transfer(stage)
            os.kill({**VICTIMS, "sshd-child": newest_session}[victim](stage), signal.SIGKILL)
            stage.link.stalled.unlink(missing_ok=True)
            await converges(stage, victim)
        await arrived_once(stage)


async def test_the_pulling_daemon_killed_in_mid_transfer(stage: Stage) -> None:
    prepare(stage)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    async with stage.source.daemon():
        async with stage.backup.daemon() as daemon:
            await stalled_transfer(stage)
            daemon.kill()
            await daemon.wait()
        stage.link.stalled.unlink(missing_ok=True)
        async with stage.backup.daemon():
            told = await stage.backup.replicate("pull")
            assert outcome(told) == "done", told.error
    await arrived_once(stage)


async def test_the_serving_daemon_killed_in_mid_transfer(stage: Stage) -> None:
    prepare(stage)
    await stage.source.run("zfs", "snapshot", "tank/data@1")
    async with stage.backup.daemon():
        async with stage.source.daemon() as daemon:
            await stalled_transfer(stage)
            daemon.kill()
            await daemon.wait()
        stage.link.stalled.unlink(missing_ok=True)
        async with stage.source.daemon():
            with trio.fail_after(120):
                await converges(stage, "source")
    await arrived_once(stage)
