"""The in-memory ZFS does what real ZFS does, on the autojump clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
import trio

from tests.zfs.conformance import CHECKS
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath


class TestClock:
    """Trio's time as wall time."""

    __test__ = False

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time())


class MemoryHost:
    """A `Host` on memory."""

    def __init__(self) -> None:
        self.zfs = MemoryZfs(rng=random.Random(0), clock=TestClock(), pools=["tank"])
        self.root = self.zfs.add_filesystem("tank/check")

    async def write(self, dataset: DatasetPath, files: Mapping[str, bytes | None]) -> None:
        self.zfs.write(dataset, files)

    async def read(self, dataset: DatasetPath) -> dict[str, bytes]:
        return self.zfs.read(dataset)


@pytest.mark.parametrize("name", CHECKS)
async def test_memory_conforms(name: str, autojump_clock: trio.testing.MockClock) -> None:
    await CHECKS[name](MemoryHost())
