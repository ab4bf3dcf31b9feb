"""Listing and releasing, on ZFS in memory."""

from __future__ import annotations

import random

import pytest

from tests.zfs.test_memory import TestClock
from zrepl_trio.endpoint.housekeeping import hold_step, list_abstractions, release
from zrepl_trio.endpoint.inventory import Selection, parse_filesystems, parse_types, stale
from zrepl_trio.errors import DatasetBusy, DatasetNotFound, ZfsError
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

A, B = DatasetPath("tank/a"), DatasetPath("tank/b")


@pytest.fixture
async def zfs() -> MemoryZfs:
    """tank/a with three snapshots, all held by job j, the second by k and by somebody else, too;
    tank/b with one, held by j."""
    zfs = MemoryZfs(rng=random.Random(0), clock=TestClock(), pools=["tank"])
    for dataset, names in ((A, "123"), (B, "1")):
        zfs.add_filesystem(dataset)
        for name in names:
            await zfs.snapshot(dataset, name)
            await hold_step(zfs, dataset, name, "j")
    await hold_step(zfs, A, "2", "k")
    await zfs.hold(A, ["2"], "keep")
    zfs.calls.clear()
    return zfs


async def listed(zfs: MemoryZfs, selection: Selection = Selection()) -> list[str]:  # noqa: B008
    return [str(each) for each in (await list_abstractions(zfs, selection)).abstractions]


def step(job: str, on: str) -> str:
    return f'step-hold "zrepl_STEP_J_{job}" on {on}'


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_all_is_listed_in_order_with_one_holds_command_a_filesystem(
    zfs: MemoryZfs, concurrency: int
) -> None:
    await zfs.snapshot(A, "not held")
    zfs.calls.clear()
    found = await list_abstractions(zfs, Selection(), concurrency=concurrency)
    assert [str(each) for each in found.abstractions] == [
        step("j", "tank/a@1"),
        step("j", "tank/a@2"),
        step("k", "tank/a@2"),
        step("j", "tank/a@3"),
        step("j", "tank/b@1"),
    ]
    assert found.errors == []
    assert [call.split()[0] for call in zfs.calls].count("holds") == 2


async def test_holds_are_not_asked_for_when_only_bookmarks_are_meant(zfs: MemoryZfs) -> None:
    types = parse_types("replication-cursor-bookmark-v2")
    assert await listed(zfs, Selection(types=types)) == []
    assert not any(call.startswith("holds") for call in zfs.calls)


async def test_a_filter_leaves_the_others_alone(zfs: MemoryZfs) -> None:
    assert await listed(zfs, Selection(filesystems=parse_filesystems("tank<:ok,tank/a:!"))) == [
        step("j", "tank/b@1")
    ]
    assert await listed(zfs, Selection(filesystems=A, job="k")) == [step("k", "tank/a@2")]


async def test_what_cannot_be_listed_is_told_beside_the_rest(zfs: MemoryZfs) -> None:
    async def fail(call: str, dataset: str) -> None:
        if (call, dataset) == ("holds", A):
            raise ZfsError("tank/a: I/O error")

    zfs.before = fail
    found = await list_abstractions(zfs, Selection())
    assert [str(each) for each in found.abstractions] == [step("j", "tank/b@1")]
    assert [(path, str(error)) for path, error in found.errors] == [(A, "tank/a: I/O error")]
    missing = await list_abstractions(zfs, Selection(filesystems=DatasetPath("tank/none")))
    assert [(path, type(error)) for path, error in missing.errors] == [
        ("tank/none", DatasetNotFound)
    ]


async def test_releasing_takes_exactly_what_it_is_given_and_one_command_a_tag(
    zfs: MemoryZfs,
) -> None:
    found = (await list_abstractions(zfs, Selection(job="j"))).abstractions
    zfs.calls.clear()
    done = [(str(each), error) async for each, error in release(zfs, stale(found))]
    assert done == [(step("j", "tank/a@1"), None), (step("j", "tank/a@2"), None)]
    assert len(zfs.calls) == 1
    assert await listed(zfs) == [
        step("k", "tank/a@2"),
        step("j", "tank/a@3"),
        step("j", "tank/b@1"),
    ]
    assert {hold.tag for hold in await zfs.holds(A, ["2"])} == {"zrepl_STEP_J_k", "keep"}


async def test_each_that_stays_has_its_own_reason_and_the_others_go(zfs: MemoryZfs) -> None:
    await zfs.bookmark(A, (await zfs.versions(A))[0], "zrepl_replication_cursor")
    found = (await list_abstractions(zfs, Selection(filesystems=A, job="j"))).abstractions
    tries = iter([True, False, True, False, False])  # the batch, then one by one

    async def fail(call: str, dataset: str) -> None:
        if call == "release" and next(tries):
            raise DatasetBusy(f"{dataset}: busy")

    zfs.before = fail
    done = {str(each): str(error or "") async for each, error in release(zfs, found)}
    assert list(done.values()).count("tank/a: busy") == 1
    assert len(done) == 4
    zfs.before = None
    left = [text for text, error in done.items() if error]
    assert await listed(zfs, Selection(filesystems=A, job="j")) == left


async def test_what_has_gone_meanwhile_is_fine(zfs: MemoryZfs) -> None:
    found = (await list_abstractions(zfs, Selection(filesystems=B))).abstractions
    await zfs.release(B, ["1"], "zrepl_STEP_J_j")
    await zfs.destroy_snapshots(B, ["1"])
    assert [error async for _, error in release(zfs, found)] == [None]


async def test_a_step_hold_is_made_once_and_only_on_a_snapshot_that_is_there(
    zfs: MemoryZfs,
) -> None:
    assert str(await hold_step(zfs, B, "1", "j")) == step("j", "tank/b@1")
    with pytest.raises(DatasetNotFound, match="tank/b@2 does not exist"):
        await hold_step(zfs, B, "2", "j")
