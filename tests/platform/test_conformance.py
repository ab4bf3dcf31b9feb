"""Real OpenZFS, by its commands, decides what the conformance suite asks of every `Zfs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.platform.conftest import Pool, run, text
from tests.support.trees import read_tree, write_tree
from tests.zfs.conformance import CHECKS
from zrepl_trio.children import open_processes
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.names import DatasetPath


class RealHost:
    """A `Host` on a pool of this machine."""

    def __init__(self, zfs: CliZfs, root: str) -> None:
        self.zfs = zfs
        self.root = DatasetPath.parse(root)

    async def write(self, dataset: DatasetPath, files: Mapping[str, bytes | None]) -> None:
        write_tree(_mounted(dataset), files)

    async def read(self, dataset: DatasetPath) -> dict[str, bytes]:
        return read_tree(_mounted(dataset))


def _mounted(dataset: DatasetPath) -> Path:
    mounted, place = text(
        "zfs", "get", "-H", "-o", "value", "mounted,mountpoint", dataset
    ).splitlines()
    if mounted != "yes":
        run("zfs", "mount", dataset)
    return Path(place)


@pytest.mark.parametrize("name", CHECKS)
async def test_real_zfs_conforms(name: str, source: Pool) -> None:
    async with open_processes() as processes:
        # Without atime=off, reading a mounted replica would count as a change of it.
        await CHECKS[name](RealHost(CliZfs(processes), source.fresh("-o", "atime=off")))
