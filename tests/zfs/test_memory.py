"""The in-memory ZFS does what real ZFS does, on the autojump clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
import trio

from tests.zfs.conformance import CHECKS
from tests.zfs.host import read_send
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import SendArgs
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


async def test_what_was_shown_before_is_shown_anew_once_it_has_changed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """By itself, by an ancestor's setting, or by another dataset in its place."""
    zfs = MemoryHost().zfs
    parent, child = DatasetPath("tank/check"), DatasetPath("tank/check/below")

    async def shown() -> tuple[str, str, str]:
        found = await zfs.properties(child, ["org:a", "compression", "guid"])
        assert found == (await zfs.properties_of([child], ["org:a", "compression", "guid"]))[child]
        return found["org:a"].value, found["compression"].value, found["guid"].value

    await zfs.create_filesystem(child, {})
    _, compression, guid = first = await shown()
    assert await shown() == first
    await zfs.set_properties(parent, {"org:a": "1"})
    assert await shown() == ("1", compression, guid)
    await zfs.set_properties(child, {"org:a": "2", "compression": "lz4"})
    assert await shown() == ("2", "lz4", guid)
    await zfs.rename(child, DatasetPath("tank/check/other"))
    await zfs.create_filesystem(child, {})
    again = await shown()
    assert again[:2] == ("1", compression)
    assert again[2] != guid


async def test_listings_tell_of_holds_and_names_as_they_are_now(
    autojump_clock: trio.testing.MockClock,
) -> None:
    zfs = MemoryHost().zfs
    path = DatasetPath("tank/check")
    await zfs.snapshot(path, "one")

    async def shown() -> list[tuple[str, int | None]]:
        return [(v.name, v.userrefs) for v in await zfs.versions(path)]

    assert await shown() == [("one", 0)]
    await zfs.hold(path, ["one"], "tag")
    assert await shown() == [("one", 1)]
    await zfs.release(path, ["one"], "tag")
    assert await shown() == [("one", 0)]
    zfs.world.rename_snapshot(path, "one", "two")
    assert await shown() == [("two", 0)]


@pytest.mark.parametrize("missing", [1, 100, -1])
async def test_a_send_that_is_to_end_early_fails_however_short_its_stream_is(
    missing: int, autojump_clock: trio.testing.MockClock
) -> None:
    """All of it may fit into a pipe. Where the stream is no longer than the limit, nothing fails."""
    host = MemoryHost()
    await host.write(host.root, {"small": b"x" * 500})
    await host.zfs.snapshot(host.root, "1")
    (version,) = await host.zfs.versions(host.root)
    args = SendArgs(dataset=host.root, to=version)
    whole = await read_send(host, args)
    host.zfs.send_limit[host.root] = len(whole) - max(missing, 0)
    if missing < 0:
        assert await read_send(host, args) == whole
        return
    got = b""
    async with host.zfs.open_send(args) as send:
        while data := await send.reader.receive_some():
            got += data
        with pytest.raises(ZfsError, match="Input/output error"):
            await send.finish()
    assert got == whole[:-missing]
