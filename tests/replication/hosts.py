"""Two pools behind the `zfs` and `zpool` commands, emulated or real, with sender and receiver."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.replication.notation import path
from tests.replication.pair import Cable
from zrepl_trio.children import open_processes
from zrepl_trio.clock import SystemClock
from zrepl_trio.emulate.sandbox import Sandbox
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.jobs.tracked import TrackedProcesses
from zrepl_trio.process import Processes
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Report
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import FilesystemVersion, SendFlags
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Hosts", "open_hosts"]

POOL_BYTES = 512 << 20


class Hosts:
    """Pools `ztsrc` and `ztdst`; jobs `src` and `dst`, the latter below `ztdst/sink`."""

    def __init__(self, processes: Processes, zfs: str, zpool: str, directory: Path) -> None:
        self.commands: list[str] = []  # every zfs process that has ended
        self.processes = TrackedProcesses(
            processes,
            SystemClock(),
            ended=lambda argv, _s, _usage: self.commands.append(" ".join(argv[1:])),
        )
        self.zfs_command = zfs
        self.zpool_command = zpool
        self.directory = directory
        self.zfs = CliZfs(self.processes, zfs=zfs)
        self.receiver = Receiver(
            self.zfs,
            job="dst",
            root=path("ztdst/sink"),
            placeholder_encryption=PlaceholderEncryption.INHERIT,
        )
        self.cable = Cable(self.sender())

    def sender(self, flags: SendFlags | None = None) -> Sender:
        return Sender(
            self.zfs,
            job="src",
            filesystems=FilesystemFilter.of({"ztsrc<": True, "ztsrc": False}),
            flags=flags or SendFlags(),
        )

    def send_with(self, flags: SendFlags) -> None:
        """Let the sender use other flags from now on."""
        self.cable.end = self.sender(flags)

    async def command(self, *argv: str) -> str:
        """Output of a zfs command, which must succeed."""
        done = await self.processes.run([self.zfs_command, *argv])
        assert done.status == 0, done.stderr.decode()
        return done.stdout.decode()

    async def create(self, name: str, *options: str) -> DatasetPath:
        await self.command("create", *options, name)
        return path(name)

    async def fill(self, name: str, size: int, *, seed: int = 0) -> None:
        """Put random bytes into a file of a mounted filesystem."""
        where = (await self.command("get", "-H", "-o", "value", "mountpoint", name)).strip()
        data = random.Random(seed).randbytes(size)
        await trio.Path(where, f"file{seed}").write_bytes(data)

    async def snapshot(self, name: str, snapshot: str) -> FilesystemVersion:
        await self.zfs.snapshot(path(name), snapshot)
        listed = await self.zfs.versions(path(name))
        return next(v for v in listed if v.is_snapshot and v.name == snapshot)

    async def run(
        self, options: ReplicationOptions | None = None, *, sender: Endpoint | None = None
    ) -> Report:
        def ignore(_report: Report) -> None:
            return

        return await replicate(
            sender or self.cable,
            self.receiver,
            options or ReplicationOptions(),
            report=ignore,
            clock=SystemClock(),
            decode_token=self.zfs.decode_token,
        )

    def local(self, name: str) -> DatasetPath:
        return path(f"ztdst/sink/{name}")

    async def received(self, name: str) -> list[str]:
        return [v.name for v in await self.zfs.versions(self.local(name)) if v.is_snapshot]

    async def marks(self, dataset: DatasetPath) -> set[str]:
        """Bookmarks and holds: `#name` and `@snap=tag`."""
        versions = await self.zfs.versions(dataset)
        holds = await self.zfs.holds(dataset, [v.name for v in versions if v.userrefs])
        return {f"#{v.name}" for v in versions if not v.is_snapshot} | {
            f"@{hold.snapshot}={hold.tag}" for hold in holds
        }

    async def value(self, dataset: str, name: str) -> tuple[str, str]:
        """A property's value and the first word of its source."""
        listed = await self.command("get", "-Hp", "-o", "value,source", name, dataset)
        value, source = listed.rstrip("\n").split("\t")
        return value, source.split(" ")[0]

    async def stream_of(self, dataset: DatasetPath, snapshot: str) -> bytes:
        """A full stream, to compare what two snapshots hold."""
        done = await self.processes.run([self.zfs_command, "send", f"{dataset}@{snapshot}"])
        assert done.status == 0
        return done.stdout

    async def same(self, name: str, snapshot: str) -> bool:
        """Whether both sides have the same files in that snapshot, by mounting the replica."""
        local = self.local(name)
        there = self.directory / "look"
        await self.command("set", f"mountpoint={there}", local)
        if (await self.value(local, "mounted"))[0] != "yes":
            await self.command("mount", local)
        where = (await self.command("get", "-H", "-o", "value", "mountpoint", name)).strip()
        ours, theirs = _files(Path(where)), _files(there)
        await self.command("unmount", local)
        await self.command("set", "mountpoint=none", local)
        return bool(ours) and ours == theirs


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


@asynccontextmanager
async def open_hosts(kind: str, directory: Path) -> AsyncIterator[Hosts]:
    """`kind` is `emulated`, or `real` for the machine's own ZFS."""
    sandbox = Sandbox(directory / "pools") if kind == "emulated" else None
    zfs = sandbox.zfs if sandbox else shutil.which("zfs") or "zfs"
    zpool = sandbox.zpool if sandbox else shutil.which("zpool") or "zpool"
    pools = ("ztsrc", "ztdst")
    async with open_processes() as processes:
        try:
            for pool in pools:
                words = [zpool, "create", pool]
                if sandbox is None:
                    device = directory / f"{pool}.img"
                    with device.open("wb") as file:
                        os.truncate(file.fileno(), POOL_BYTES)
                    words = [zpool, "create", "-m", str(directory / pool), pool, str(device)]
                done = await processes.run(words)
                assert done.status == 0, done.stderr.decode()
            # emulated mountpoints lie below the pools' directory, as with an altroot
            mounts = directory if sandbox is None else sandbox.directory
            hosts = Hosts(processes, zfs, zpool, mounts)
            await hosts.create("ztdst/sink", "-o", "mountpoint=none")
            yield hosts
        finally:
            if sandbox is None:
                with trio.CancelScope(shield=True):
                    for pool in pools:
                        await processes.run([zpool, "destroy", "-f", pool])
                        # a full /tmp, which may be memory, has the next ones' pools hang
                        (directory / f"{pool}.img").unlink(missing_ok=True)
