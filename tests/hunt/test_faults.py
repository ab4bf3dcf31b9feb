"""A command fails before, during or after its effect, the first that can."""

from __future__ import annotations

import pytest
import trio.testing

from tests.hunt.faults import Fault
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.test_moments import SOURCE, TARGET, Unseen, move
from tests.hunt.world import START
from zrepl_trio.errors import ZfsError
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.zfs.model import FilesystemVersion


class _Setup:
    def __init__(self) -> None:
        self.zfs = FaultyZfs("app", seed=1, clock=SimulatedClock(START), witness=Unseen())
        self.zfs.add_pool("tank")
        self.zfs.add_filesystem(SOURCE)
        self.zfs.write(SOURCE, {"a": b"a" * 2_000})
        self.struck = 0

    def fails(self, when: str, call: str, count: int = 0) -> None:
        def struck() -> None:
            self.struck += 1

        self.zfs.faults.add(Fault(when, call, struck, count))

    async def taken(self, name: str) -> FilesystemVersion:
        await self.zfs.snapshot(SOURCE, name)
        return (await self.zfs.versions(SOURCE))[-1]


@pytest.fixture
async def setup(autojump_clock: trio.testing.MockClock) -> _Setup:
    return _Setup()


async def test_a_receive_takes_everything_and_fails(setup: _Setup) -> None:
    version = await setup.taken("1")
    setup.fails("after", "open_receive")
    with pytest.raises(ZfsError, match="at its very end"):
        await move(setup.zfs, version)
    assert setup.struck == 1
    assert list(setup.zfs.world.open(TARGET).snapshots) == ["1"]


async def test_a_send_ends_early_where_its_stream_is_long_enough(setup: _Setup) -> None:
    version = await setup.taken("1")
    setup.fails("stop", "open_send", count=100_000)
    await move(setup.zfs, version)
    assert setup.struck == 0
    setup.zfs.write(SOURCE, {"b": b"b" * 200_000})
    following = await setup.taken("2")
    with pytest.raises(ZfsError, match="Input/output error"):
        await move(setup.zfs, following, version)
    assert setup.struck == 1


async def test_a_part_of_the_bookmarks_is_made_and_none_goes(setup: _Setup) -> None:
    """Where there is no part, it waits."""
    zfs, version = setup.zfs, await setup.taken("1")
    setup.fails("during", "change_bookmarks")
    await zfs.change_bookmarks({SOURCE: {"old": version}}, {})
    with pytest.raises(ZfsError):
        await zfs.change_bookmarks({SOURCE: {"new": version}}, {SOURCE: ["old"]})
    assert sorted(zfs.world.open(SOURCE).bookmarks) == ["new", "old"]
    assert setup.struck == 1


async def test_each_fault_strikes_one_command(setup: _Setup) -> None:
    zfs, version = setup.zfs, await setup.taken("1")
    setup.fails("before", "hold")
    await zfs.release(SOURCE, ["1"], "tag")
    with pytest.raises(ZfsError):
        await zfs.hold(SOURCE, ["1"], "tag")
    assert await zfs.holds(SOURCE, [version.name]) == []
    await zfs.hold(SOURCE, ["1"], "tag")
    assert setup.struck == 1
