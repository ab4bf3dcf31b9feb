"""Two pretended hosts with pools and running daemons, for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import trio

from tests.support.hosts import marked_processes, scratch
from tests.support.resources import until
from zrepl_trio.control.api import FilesystemModel, JobModel
from zrepl_trio.demo.data import MIB, digest
from zrepl_trio.demo.host import Host
from zrepl_trio.demo.stage import Stage, open_stage

REPLICAS = "storage/backups"


@asynccontextmanager
async def stage_with_pools(*, use_sshd: bool = False) -> AsyncIterator[Stage]:
    """The stage, `tank/data` and `storage/backups` made. At the end nothing of it may be left."""
    with scratch() as directory:
        async with open_stage(directory, use_sshd=use_sshd) as stage:
            await stage.source.run("zpool", "create", "tank")
            await stage.source.run("zfs", "create", "tank/data")
            await stage.backup.run("zpool", "create", "storage")
            await stage.backup.run("zfs", "create", REPLICAS)
            yield stage
        # What was killed with -9 may leave children that end by themselves, as their pipes have.
        await until(lambda: marked_processes(directory) == [], within_s=20)


def data(stage: Stage, dataset: str = "tank/data") -> Path:
    """Where the source's files are."""
    return stage.source.directory / "pools" / dataset


async def snapshots(host: Host, dataset: str) -> list[str]:
    """The names behind `@`, oldest first."""
    listed = await host.run("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-d", "1", dataset)
    return [line.partition("@")[2] for line in listed.split()]


async def same_files(stage: Stage, dataset: str = "tank/data") -> bool:
    """Whether the replica, mounted for a look, has the files of the source."""
    replica = f"{REPLICAS}/{dataset}"
    await stage.backup.run("zfs", "set", "mountpoint=/look", replica)
    await stage.backup.run("zfs", "mount", replica)
    looked_at = digest(stage.backup.directory / "pools/look")
    return looked_at == digest(data(stage, dataset)) and looked_at.files > 0


def filesystems(told: JobModel) -> list[FilesystemModel]:
    """Those of the last attempt."""
    assert told.replication is not None
    return list(told.replication.attempts[-1].filesystems)


def outcome(told: JobModel) -> str:
    """How the run ended."""
    assert told.invocation is not None
    return told.invocation.outcome


async def received(stage: Stage) -> int:
    """Bytes over all counted connections, once all of them have ended."""
    return sum(await transfers(stage, at_least=0))


async def transfers(stage: Stage, *, at_least: int = MIB) -> list[int]:
    """Bytes over each counted connection that carried a transfer, in the order of their ends,
    once all of them have ended."""
    directory = str(stage.link.directory)

    def relays() -> bool:
        return any(
            directory in process.info["cmdline"]
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"]
        )

    with trio.fail_after(20):
        while relays():  # noqa: ASYNC110 - no event tells of another's process
            await trio.sleep(0.02)
    counted = sorted(
        (path.stat().st_mtime_ns, int(path.read_text()))
        for path in stage.link.directory.glob("received.*")
    )
    return [size for _, size in counted if size >= at_least]
