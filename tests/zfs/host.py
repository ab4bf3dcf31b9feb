"""A ZFS to try things on, and the hands to do it: what the conformance checks are written with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Protocol

import trio

from zrepl_trio.zfs.model import FilesystemVersion, ReceiveArgs, SendArgs
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

MIB = 1 << 20
PLACEHOLDER = {"zrepl:placeholder": "on", "mountpoint": "none"}


class Host(Protocol):
    """One ZFS to try, and hands to put files into it."""

    @property
    def zfs(self) -> Zfs: ...

    @property
    def root(self) -> DatasetPath:
        """An empty filesystem, for this check alone."""

    async def write(self, dataset: DatasetPath, files: Mapping[str, bytes | None]) -> None:
        """Change a mounted filesystem's files; None removes one."""

    async def read(self, dataset: DatasetPath) -> dict[str, bytes]:
        """A filesystem's files; mounts it when it is not."""


def blob(size: int, seed: int = 1) -> bytes:
    """Incompressible bytes."""
    return random.Random(seed).randbytes(size)


async def source(host: Host, name: str = "src") -> DatasetPath:
    """A filesystem to send from."""
    path = host.root.child(name)
    await host.zfs.create_filesystem(path, {})
    return path


async def snap(host: Host, path: DatasetPath, name: str) -> FilesystemVersion:
    """Take a snapshot and give it."""
    await host.zfs.snapshot(path, name)
    return await version(host, path, f"@{name}")


async def version(host: Host, path: DatasetPath, relative: str) -> FilesystemVersion:
    """That snapshot or bookmark of the dataset."""
    found = [v for v in await host.zfs.versions(path) if v.relative == relative]
    assert len(found) == 1, f"{path}{relative}"
    return found[0]


async def relatives(host: Host, path: DatasetPath) -> list[str]:
    """Its snapshots and bookmarks in the order of the listing."""
    return [v.relative for v in await host.zfs.versions(path)]


async def read_send(host: Host, args: SendArgs) -> bytes:
    """A whole send stream."""
    data = bytearray()
    async with host.zfs.open_send(args) as send:
        while chunk := await send.reader.receive_some(65536):
            data += chunk
        await send.finish()
    return bytes(data)


async def receive(host: Host, args: ReceiveArgs, stream: bytes) -> None:
    """Feed a stream, or what there is of it, to a receive."""
    async with host.zfs.open_receive(args) as recv:
        try:
            for at in range(0, len(stream), 65536):
                await recv.writer.send_all(stream[at : at + 65536])
        except trio.BrokenResourceError:
            pass
        await recv.finish()


async def replicate(
    host: Host,
    path: DatasetPath,
    to: FilesystemVersion,
    target: DatasetPath,
    from_: FilesystemVersion | None = None,
) -> None:
    """Send one snapshot into a dataset."""
    stream = await read_send(host, SendArgs(dataset=path, to=to, from_=from_))
    await receive(host, ReceiveArgs(dataset=target, snapshot=to.name), stream)


# -- listing ---------------------------------------------------------------------------------
