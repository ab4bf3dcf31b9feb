"""What the model keeps of its listings: until it changes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.replication.notation import path
from tests.replication.pair import SteppingClock
from zrepl_trio.emulate import holds
from zrepl_trio.emulate.model import World
from zrepl_trio.emulate.renaming import rename
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.memory_shown import versions_shown

A, B = path("tank/a"), path("tank/b")


async def made() -> MemoryZfs:
    zfs = MemoryZfs(rng=random.Random(1), clock=SteppingClock(), pools=["tank"])
    for name in (A, B):
        zfs.add_filesystem(name)
        for snapshot in ("1", "2", "3"):
            await zfs.snapshot(name, snapshot)
    await zfs.hold(A, ["2"], "kept")
    zfs.world.bookmark(f"{A}@1", f"{A}#mark")
    zfs.world.bookmark(f"{A}@3", f"{A}#last")
    return zfs


def hold(world: World) -> None:
    holds.hold(world, "tag", [(A, "2")])


def release(world: World) -> None:
    holds.release(world, "kept", [(A, "2")])


@pytest.mark.parametrize(
    "change",
    [
        hold,
        release,
        lambda world: world.snapshots([(B, "4"), (A, "4")]),
        lambda world: world.bookmark(f"{A}@2", f"{A}#more"),
        lambda world: world.destroy_bookmark(A, "mark"),
        lambda world: world.destroy_snapshots(A, ["1", "3"], busy=()),
        lambda world: world.rename_snapshot(A, "2", "two"),
        lambda world: world.rollback(A, "2", recursive=True),
    ],
    ids=["hold", "release", "snapshot", "bookmark", "unmark", "destroy", "rename", "rollback"],
)
async def test_what_changes_is_listed_anew(change: Callable[[World], object]) -> None:
    world = (await made()).world
    dataset = world.open(A)
    before = versions_shown(dataset, keep=True)
    assert before == versions_shown(dataset)
    assert versions_shown(dataset, keep=True) == before
    change(world)
    after = versions_shown(dataset, keep=True)
    assert after == versions_shown(dataset)
    assert after != before


async def test_a_listing_is_for_who_asked() -> None:
    dataset = (await made()).world.open(A)
    before = versions_shown(dataset, keep=True)
    versions_shown(dataset, keep=True).clear()
    assert versions_shown(dataset, keep=True) == before


async def test_which_datasets_are_below_follows_them() -> None:
    world = (await made()).world

    def below() -> list[str]:
        return [each.name for each in world.below("tank")]

    assert below() == ["tank", A, B]
    world.below("tank").clear()
    world.create("tank/a/c", {})
    assert below() == ["tank", A, "tank/a/c", B]
    rename(world, A, path("tank/z"))
    assert below() == ["tank", B, "tank/z", "tank/z/c"]
    world.destroy("tank/z/c", recursive=False)
    assert below() == ["tank", B, "tank/z"]
    assert world.below("tank", depth=0) == [world.open("tank")]
