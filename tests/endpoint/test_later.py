"""Holds and cursors that are moved and dropped for many filesystems at once."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import SteppingClock
from zrepl_trio.endpoint.guarantees import Bookmark, Changes
from zrepl_trio.endpoint.later import Later
from zrepl_trio.endpoint.remembered import Remembered
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

NAMES = [path(f"tank/f{number}") for number in range(5)]
MOVE = Changes(tag="tag", hold=("2",), release=("1",))


@pytest.fixture
async def zfs() -> MemoryZfs:
    made = MemoryZfs(rng=random.Random(1), clock=SteppingClock(), pools=["tank"])
    for name in NAMES:
        made.add_filesystem(name)
        for snapshot in ("1", "2", "3"):
            await made.snapshot(name, snapshot)
        await made.hold(name, ["1"], "tag")
    return made


@pytest.fixture
def later(zfs: MemoryZfs) -> Later:
    return Later(zfs, Remembered(zfs))


async def put_off_cursors(later: Later, zfs: MemoryZfs) -> None:
    """Of the first three, from `#old` of @1 to `#new` of @2, and the holds with them."""
    for name in NAMES[:3]:
        versions = {v.name: v for v in await zfs.versions(name)}
        await zfs.bookmark(name, versions["1"], "old")
        changes = replace(MOVE, bookmark=(Bookmark(versions["2"], "new"),), destroy=("old",))
        await later.put_off(name, changes)


async def held(zfs: MemoryZfs, name: DatasetPath) -> str:
    return "".join(hold.snapshot for hold in await zfs.holds(name, ["1", "2", "3"]))


async def test_what_was_put_off_is_done_for_all(later: Later, zfs: MemoryZfs) -> None:
    for name in NAMES:
        await later.put_off(name, MOVE)
    assert [await held(zfs, name) for name in NAMES] == ["1"] * 5
    await later.settle()
    assert [await held(zfs, name) for name in NAMES] == ["2"] * 5
    calls = len(zfs.calls)
    await later.settle()
    assert len(zfs.calls) == calls


async def test_what_comes_later_counts(later: Later, zfs: MemoryZfs) -> None:
    await later.put_off(NAMES[0], MOVE)
    await later.put_off(NAMES[0], Changes(tag="tag", hold=("3",), release=("1",)))
    await later.put_off(NAMES[1], MOVE)
    await later.put_off(NAMES[1], Changes(tag="tag"))
    await later.settle()
    assert [await held(zfs, name) for name in NAMES[:2]] == ["3", "1"]


async def test_one_that_fails_keeps_its_old_hold_and_keeps_up_no_other(
    later: Later, zfs: MemoryZfs
) -> None:
    for name in NAMES[:3]:
        await later.put_off(name, MOVE)
    await zfs.destroy_snapshots(NAMES[1], ["2"])
    await later.settle()
    assert [await held(zfs, name) for name in (NAMES[0], NAMES[2])] == ["2", "2"]
    assert [h.snapshot for h in await zfs.holds(NAMES[1], ["1", "3"])] == ["1"]


async def test_nothing_is_moved_where_it_is_being_decided(later: Later, zfs: MemoryZfs) -> None:
    for name in NAMES[:2]:
        await later.put_off(name, MOVE)
    async with later.deciding(NAMES[0]):
        await later.settle()
        assert [await held(zfs, name) for name in NAMES[:2]] == ["1", "2"]
        # it may turn out that the old one is needed after all
        await later.put_off(NAMES[0], Changes(tag="tag", hold=("3",)))
    await later.settle()
    assert await held(zfs, NAMES[0]) == "13"


async def test_who_decides_waits_for_what_is_being_moved(
    later: Later, zfs: MemoryZfs, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[str] = []

    async def slow(call: str, _dataset: str) -> None:
        if call in {"hold", "release"}:
            await trio.sleep(1)

    async def decide(name: DatasetPath) -> None:
        async with later.deciding(name):
            seen.append(f"{name} {trio.current_time():g} {await held(zfs, name)}")

    await later.put_off(NAMES[0], MOVE)
    zfs.before = slow
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later.settle)
        await trio.testing.wait_all_tasks_blocked()
        for name in NAMES[:2]:
            nursery.start_soon(decide, name)
    assert sorted(seen) == ["tank/f0 2 2", "tank/f1 0 1"]


async def test_many_are_not_put_off_for_ever(
    later: Later, zfs: MemoryZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zrepl_trio.endpoint.later._MOST", 3)
    for name in NAMES[:3]:
        await later.put_off(name, MOVE)
    assert [await held(zfs, name) for name in NAMES[:3]] == ["2"] * 3


async def test_a_hold_that_fails_leaves_the_old_one(later: Later, zfs: MemoryZfs) -> None:
    await later.put_off(NAMES[0], MOVE)

    async def broken(call: str, _dataset: str) -> None:
        if call == "hold":
            raise ZfsError("no")

    zfs.before = broken
    await later.settle()
    zfs.before = None
    assert await held(zfs, NAMES[0]) == "1"


async def test_cursors_are_moved_for_all_between_holds_and_releases(
    later: Later, zfs: MemoryZfs
) -> None:
    await put_off_cursors(later, zfs)
    zfs.calls.clear()
    await later.settle()
    done = [call.split(" ")[0] for call in zfs.calls]
    each = ["hold", "bookmark", "destroy_bookmark", "release"]
    assert [call for call in done if call in each] == [call for call in each for _ in range(3)]
    for name in NAMES[:3]:
        assert [v.name for v in await zfs.versions(name) if not v.is_snapshot] == ["new"]


async def test_one_whose_cursor_cannot_move_loses_nothing_and_keeps_up_no_other(
    later: Later, zfs: MemoryZfs
) -> None:
    await put_off_cursors(later, zfs)
    await zfs.destroy_bookmark(NAMES[1], "new")
    newer = [v for v in await zfs.versions(NAMES[1]) if v.name == "3"]
    await zfs.bookmark(NAMES[1], newer[0], "new")  # a name that is taken
    await later.settle()
    marks = [[v.name for v in await zfs.versions(n) if not v.is_snapshot] for n in NAMES[:3]]
    assert marks == [["new"], ["old", "new"], ["new"]]
    assert [await held(zfs, name) for name in NAMES[:3]] == ["2", "12", "2"]
    assert [later.distrusts(name) for name in NAMES[:3]] == [False, True, False]


@pytest.mark.parametrize("call", ["hold", "bookmark", "destroy_bookmark", "release"])
async def test_a_settle_that_is_cancelled_is_done_by_the_next(
    later: Later, zfs: MemoryZfs, call: str
) -> None:
    await put_off_cursors(later, zfs)
    with trio.CancelScope() as scope:

        async def cancel(now: str, dataset: str) -> None:
            if (now, dataset) == (call, NAMES[1]):
                scope.cancel()
                await trio.lowlevel.checkpoint()

        zfs.before = cancel
        await later.settle()
    zfs.before = None
    assert scope.cancelled_caught
    await later.settle()
    assert [await held(zfs, name) for name in NAMES[:3]] == ["2"] * 3
    marks = [[v.name for v in await zfs.versions(n) if not v.is_snapshot] for n in NAMES[:3]]
    assert marks == [["new"]] * 3
