"""`CliZfs` on the emulated commands does what it does on real OpenZFS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from tests.support.resources import nothing_left_behind
from tests.support.trees import read_tree, write_tree
from tests.zfs.conformance import CHECKS
from zrepl_trio.children import open_processes
from zrepl_trio.emulate.sandbox import Sandbox
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.names import DatasetPath


class EmulatedHost:
    """A `Host` on a sandbox."""

    def __init__(self, zfs: CliZfs, sandbox: Sandbox, root: str) -> None:
        self.zfs = zfs
        self.root = DatasetPath.parse(root)
        self._sandbox = sandbox

    async def write(self, dataset: DatasetPath, files: Mapping[str, bytes | None]) -> None:
        write_tree(await self._mounted(dataset), files)

    async def read(self, dataset: DatasetPath) -> dict[str, bytes]:
        return read_tree(await self._mounted(dataset))

    async def _mounted(self, dataset: DatasetPath) -> Path:
        found = await self.zfs.properties(dataset, ["mounted", "mountpoint"])
        if found["mounted"].value != "yes":
            await trio.run_process([self._sandbox.zfs, "mount", dataset])
        return Path(found["mountpoint"].value)


@pytest.mark.parametrize("name", CHECKS)
async def test_emulated_zfs_conforms(name: str, tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    await trio.run_process([sandbox.zpool, "create", "tank"])
    await trio.run_process([sandbox.zfs, "create", "tank/check"])
    with nothing_left_behind():
        async with open_processes() as processes:
            host = EmulatedHost(CliZfs(processes, zfs=sandbox.zfs), sandbox, "tank/check")
            await CHECKS[name](host)
    assert list((tmp_path / ".emulated-zfs/marks").iterdir()) == []
