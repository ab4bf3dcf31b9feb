"""One listing serves the questions of one planning, and never what is no longer so."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import SteppingClock
from zrepl_trio.endpoint.guarantees import Bookmark, Changes
from zrepl_trio.endpoint.listing import listing_roots
from zrepl_trio.endpoint.protect import carry_out
from zrepl_trio.endpoint.remembered import REMEMBERED_S, Remembered
from zrepl_trio.errors import DatasetNotFound
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import Dataset
from zrepl_trio.zfs.names import DatasetPath

NAMES = [path(f"tank/f{number}") for number in range(20)]
DATASETS = [Dataset(path=name, guid=number) for number, name in enumerate(NAMES)]


@pytest.fixture
async def zfs() -> MemoryZfs:
    made = MemoryZfs(rng=random.Random(1), clock=SteppingClock(), pools=["tank"])
    for name in NAMES:
        made.add_filesystem(name)
        await made.snapshot(name, "1")
    return made


@pytest.fixture
def calls(zfs: MemoryZfs) -> list[str]:
    """The listings that zfs was asked for."""
    seen: list[str] = []

    async def note(call: str, dataset: str) -> None:
        seen.append(call)

    zfs.before = note
    return seen


@pytest.fixture
def remembered(zfs: MemoryZfs) -> Remembered[Dataset]:
    made: Remembered[Dataset] = Remembered(zfs)
    made.expect(DATASETS)
    return made


async def names(remembered: Remembered[Dataset], dataset: DatasetPath) -> list[str]:
    return [version.name for version in await remembered.of(dataset)]


async def test_what_is_stale_takes_no_memory(
    remembered: Remembered[Dataset], calls: list[str], autojump_clock: trio.abc.Clock
) -> None:
    await names(remembered, NAMES[0])
    assert remembered.drop_stale()
    assert remembered.dataset(NAMES[0]) is not None
    await trio.sleep(REMEMBERED_S / 2)
    await remembered.all_of(NAMES)  # listed later than the datasets
    await trio.sleep(REMEMBERED_S / 2)
    assert remembered.drop_stale()
    calls.clear()
    assert await names(remembered, NAMES[0]) == ["1"]
    assert calls == []
    await trio.sleep(REMEMBERED_S / 2)
    assert not remembered.drop_stale()
    assert await names(remembered, NAMES[0]) == ["1"]
    assert calls == ["versions_below"]
    assert remembered.drop_stale()


async def test_all_are_answered_from_one_listing_also_when_asked_at_once(
    remembered: Remembered[Dataset], calls: list[str]
) -> None:
    async with trio.open_nursery() as nursery:
        for name in NAMES:
            nursery.start_soon(remembered.of, name)
    assert await names(remembered, NAMES[3]) == ["1"]
    assert calls == ["versions_below"]


async def test_what_changed_is_listed_anew_alone(
    remembered: Remembered[Dataset], zfs: MemoryZfs, calls: list[str]
) -> None:
    assert await names(remembered, NAMES[0]) == ["1"]
    await zfs.snapshot(NAMES[0], "2")
    await zfs.snapshot(NAMES[1], "2")
    remembered.forget(NAMES[0])
    calls.clear()
    assert await names(remembered, NAMES[0]) == ["1", "2"]
    assert await names(remembered, NAMES[1]) == ["1"]  # somebody else's change: the next planning's
    assert calls == ["versions"]


async def test_each_planning_lists_anew(remembered: Remembered[Dataset], zfs: MemoryZfs) -> None:
    assert await names(remembered, NAMES[0]) == ["1"]
    await zfs.snapshot(NAMES[0], "2")
    remembered.expect(DATASETS)
    assert await names(remembered, NAMES[0]) == ["1", "2"]


async def test_nothing_is_remembered_for_long(
    remembered: Remembered[Dataset], zfs: MemoryZfs, autojump_clock: trio.testing.MockClock
) -> None:
    assert await names(remembered, NAMES[0]) == ["1"]
    await zfs.snapshot(NAMES[0], "2")
    await trio.sleep(REMEMBERED_S)
    assert await names(remembered, NAMES[0]) == ["1", "2"]


async def test_what_nobody_was_told_of_is_asked_for(
    remembered: Remembered[Dataset], zfs: MemoryZfs
) -> None:
    zfs.add_filesystem("tank/other")
    assert await names(remembered, path("tank/other")) == []
    with pytest.raises(DatasetNotFound):
        await remembered.of(path("tank/nope"))


@pytest.mark.parametrize(
    ("paths", "configured", "roots"),
    [
        ("tank/a tank/b", "tank", "tank"),
        ("tank/a tank/b", "", "tank/a tank/b"),
        ("tank/a tank/a/b", "tank", "tank/a"),
        ("tank/a tank/b disk/c", "tank disk", "disk/c tank"),
        ("tank/a/x tank/a/y tank/b", "tank tank/a", "tank"),
        ("tank/a", "tank", "tank/a"),
    ],
)
def test_where_to_list_from(paths: str, configured: str, roots: str) -> None:
    found = listing_roots([path(p) for p in paths.split()], [path(p) for p in configured.split()])
    assert found == roots.split()


async def test_holds_are_asked_for_once_for_all_that_can_have_any(
    remembered: Remembered[Dataset], zfs: MemoryZfs, calls: list[str]
) -> None:
    for name in NAMES[:5]:
        await zfs.hold(name, ["1"], "tag")
    calls.clear()
    await remembered.of(NAMES[0])
    for name in NAMES:
        versions, holds = await remembered.with_holds(name)
        assert [version.name for version in versions] == ["1"]
        assert [hold.tag for hold in holds] == ["tag"] * (name in NAMES[:5])
    assert calls == ["versions_below", "holds_of"]


async def test_a_snapshot_that_is_gone_is_the_business_of_its_own_dataset(
    remembered: Remembered[Dataset], zfs: MemoryZfs
) -> None:
    for name in NAMES[:2]:
        await zfs.hold(name, ["1"], "tag")
    await remembered.of(NAMES[0])
    await zfs.release(NAMES[1], ["1"], "tag")
    await zfs.destroy_snapshots(NAMES[1], ["1"])
    _, holds = await remembered.with_holds(NAMES[0])
    assert [hold.dataset for hold in holds] == [NAMES[0]]
    assert await remembered.with_holds(NAMES[1]) == ([], [])


async def test_our_own_changes_are_kept_up_with(
    remembered: Remembered[Dataset], zfs: MemoryZfs, calls: list[str]
) -> None:
    name = NAMES[0]
    await remembered.of(name)
    versions, holds = await remembered.with_holds(name)
    first = Changes(tag="tag", hold=("1",), bookmark=(Bookmark(versions[0], "mark"),))
    second = Changes(tag="tag", release=("1",), destroy=("mark",))
    calls.clear()
    for changes in (first, second):
        assert await carry_out(zfs, name, changes)
        remembered.did(name, changes)
        seen = len(calls)
        versions, holds = await remembered.with_holds(name)
        assert len(calls) == seen
        assert versions == await zfs.versions(name)
        assert holds == await zfs.holds(name, ["1"])


async def test_changes_to_what_nobody_may_ask_any_more_take_no_memory(
    remembered: Remembered[Dataset], autojump_clock: trio.abc.Clock
) -> None:
    """A receiver that catches up for hours asks nothing meanwhile, and makes one for each step."""
    await remembered.of(NAMES[0])
    assert remembered._known.keys() == set(NAMES)
    await trio.sleep(REMEMBERED_S)
    for name in NAMES:
        remembered.did(name, Changes(tag="tag", hold=("1",)))
    assert remembered._known == {}
