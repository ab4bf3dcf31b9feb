"""One listing serves the questions of one planning, and never what is no longer so."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import SteppingClock
from zrepl_trio.endpoint.listing import listing_roots
from zrepl_trio.endpoint.remembered import REMEMBERED_S, RememberedVersions
from zrepl_trio.errors import DatasetNotFound
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

NAMES = [path(f"tank/f{number}") for number in range(20)]


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
def remembered(zfs: MemoryZfs) -> RememberedVersions:
    made = RememberedVersions(zfs)
    made.expect(NAMES)
    return made


async def names(remembered: RememberedVersions, dataset: DatasetPath) -> list[str]:
    return [version.name for version in await remembered.of(dataset)]


async def test_all_are_answered_from_one_listing_also_when_asked_at_once(
    remembered: RememberedVersions, calls: list[str]
) -> None:
    async with trio.open_nursery() as nursery:
        for name in NAMES:
            nursery.start_soon(remembered.of, name)
    assert await names(remembered, NAMES[3]) == ["1"]
    assert calls == ["versions_below"]


async def test_what_changed_is_listed_anew_alone(
    remembered: RememberedVersions, zfs: MemoryZfs, calls: list[str]
) -> None:
    assert await names(remembered, NAMES[0]) == ["1"]
    await zfs.snapshot(NAMES[0], "2")
    await zfs.snapshot(NAMES[1], "2")
    remembered.forget(NAMES[0])
    calls.clear()
    assert await names(remembered, NAMES[0]) == ["1", "2"]
    assert await names(remembered, NAMES[1]) == ["1"]  # somebody else's change: the next planning's
    assert calls == ["versions"]


async def test_each_planning_lists_anew(remembered: RememberedVersions, zfs: MemoryZfs) -> None:
    assert await names(remembered, NAMES[0]) == ["1"]
    await zfs.snapshot(NAMES[0], "2")
    remembered.expect(NAMES)
    assert await names(remembered, NAMES[0]) == ["1", "2"]


async def test_nothing_is_remembered_for_long(
    remembered: RememberedVersions, zfs: MemoryZfs, autojump_clock: trio.testing.MockClock
) -> None:
    assert await names(remembered, NAMES[0]) == ["1"]
    await zfs.snapshot(NAMES[0], "2")
    await trio.sleep(REMEMBERED_S)
    assert await names(remembered, NAMES[0]) == ["1", "2"]


async def test_what_nobody_was_told_of_is_asked_for(
    remembered: RememberedVersions, zfs: MemoryZfs
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
