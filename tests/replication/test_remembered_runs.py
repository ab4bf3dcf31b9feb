"""What a side remembers must never cost protection: clients beside each other, and others' changes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import Cable, Pair, SteppingClock
from tests.replication.test_range_runs import KINDS, RESUMABILITY, marks_now, take
from zrepl_trio.emulate import holds
from zrepl_trio.endpoint.model import GuaranteeKind, SendRequest
from zrepl_trio.endpoint.remembered import Remembered
from zrepl_trio.errors import Refused, ZfsError
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import Dataset, FilesystemVersion, SendFlags
from zrepl_trio.zfs.names import DatasetPath

A = path("tank/a")
INCREMENTAL = KINDS[GuaranteeKind.INCREMENTAL]


@pytest.fixture
async def pair() -> Pair:
    made = Pair()
    made.cable.moves_ranges = True
    return made


async def versions(pair: Pair) -> dict[str, FilesystemVersion]:
    return {v.name: v for v in await pair.source.versions(A) if v.is_snapshot}


async def check_an_increment_is_possible(pair: Pair, numbers: range) -> None:
    """Though everything that is not held is destroyed on the sender."""
    for version in await pair.source.versions(A):
        if version.is_snapshot and version.userrefs == 0:
            await pair.source.destroy_snapshots(A, [version.name])
    await take(pair, numbers)
    report = await pair.run(options=INCREMENTAL)
    assert report.outcome is Outcome.DONE, report.error


async def test_a_range_that_came_whole_but_was_found_fault_with_keeps_its_last_snapshot(
    pair: Pair,
) -> None:
    await take(pair, range(3))
    await pair.run(options=INCREMENTAL)
    await take(pair, range(3, 6))

    async def fail(call: str, _dataset: str) -> None:
        if call == "properties_of":
            raise ZfsError("boom")

    pair.target.before = fail
    await pair.run(options=replace(INCREMENTAL, attempts=1))
    pair.target.before = None
    await pair.run(options=INCREMENTAL)
    await check_an_increment_is_possible(pair, range(6, 7))


async def test_a_range_whose_answer_is_lost_keeps_its_last_snapshot(pair: Pair) -> None:
    await take(pair, range(3))
    await pair.run(options=INCREMENTAL)
    await take(pair, range(3, 6))
    sink = Cable(pair.receiver)
    sink.moves_ranges = True
    sink.lose = {"receive"}
    report = await replicate(
        pair.sender,
        sink,
        INCREMENTAL,
        report=lambda _report: None,
        clock=pair.clock,
        decode_token=pair.target.decode_token,
    )
    assert report.outcome is Outcome.DONE, report.error
    await check_an_increment_is_possible(pair, range(6, 7))


async def test_another_clients_confirmation_leaves_what_a_send_starts_from(pair: Pair) -> None:
    await take(pair, range(1))
    await pair.run(options=INCREMENTAL)
    await take(pair, range(1, 3))
    v = await versions(pair)
    request = SendRequest(
        filesystem=A, from_=v["00"], to=v["01"], protection=INCREMENTAL.protection
    )
    async with pair.sender.send(request):
        await pair.sender.send_completed(replace(request, to=v["02"]))
        assert any(f"{v['00'].guid:016x}" in mark for mark in marks_now(pair))


async def test_two_confirmations_at_once_do_not_undo_each_others_record(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    await take(pair, range(1))
    await pair.run(options=RESUMABILITY)
    await take(pair, range(1, 4))
    await pair.sender.list_filesystems()
    await pair.sender.list_versions(A)
    v = await versions(pair)

    def step(from_: str, to: str) -> SendRequest:
        return SendRequest(
            filesystem=A, from_=v[from_], to=v[to], protection=RESUMABILITY.protection
        )

    async with pair.sender.send(step("01", "02")):
        pass
    seen: list[str] = []

    async def slow(call: str, _dataset: str) -> None:
        if call == "bookmark":
            seen.append(call)
            await trio.sleep(len(seen))

    pair.source.before = slow
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.sender.send_completed, step("01", "02"))
        await trio.sleep(0.5)
        nursery.start_soon(pair.sender.send_completed, step("00", "01"))
    pair.source.before = None
    async with pair.sender.send(step("02", "03")):
        assert {f"@{name}=zrepl_STEP_J_src" for name in ("02", "03")} <= marks_now(pair)
    await pair.sender.send_completed(step("02", "03"))
    await pair.sender.settle()
    assert not [mark for mark in await pair.marks("tank/a") if "STEP" in mark]


async def test_a_listing_under_way_does_not_undo_our_own_change(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    names = [f"tank/{letter}" for letter in "abcde"]
    await take(pair, range(1), *names)
    await pair.run(options=RESUMABILITY)
    await take(pair, range(1, 3), *names)
    await pair.sender.list_filesystems()
    await pair.sender.list_versions(A)
    v = await versions(pair)
    listed = pair.source.versions_below

    async def slow_listing(roots: list[DatasetPath]) -> dict[DatasetPath, list[FilesystemVersion]]:
        found = await listed(roots)
        await trio.sleep(5)
        return found

    async def slow(call: str, _dataset: str) -> None:
        if call == "hold":
            await trio.sleep(2)

    pair.source.versions_below = slow_listing  # type: ignore[method-assign, assignment]
    pair.source.before = slow
    await trio.sleep(59)
    request = SendRequest(
        filesystem=A, from_=v["00"], to=v["01"], protection=RESUMABILITY.protection
    )

    async def another_asks() -> None:
        await trio.sleep(1.5)
        await pair.sender.list_versions(path("tank/b"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(another_asks)
        async with pair.sender.send(request):
            await trio.sleep(10)
    await pair.sender.send_completed(request)
    await pair.sender.settle()
    assert not [mark for mark in await pair.marks("tank/a") if "STEP" in mark]


async def test_a_listing_that_began_before_a_planning_does_not_answer_for_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    zfs = MemoryZfs(rng=random.Random(1), clock=SteppingClock(), pools=["tank"])
    names = [path(f"tank/f{number}") for number in range(5)]
    for name in names:
        zfs.add_filesystem(name)
        await zfs.snapshot(name, "1")
    datasets = [Dataset(path=name, guid=1) for name in names]
    remembered: Remembered[Dataset] = Remembered(zfs)
    remembered.expect(datasets)
    listed = zfs.versions_below

    async def slow(roots: list[DatasetPath]) -> dict[DatasetPath, list[FilesystemVersion]]:
        found = await listed(roots)
        await trio.sleep(5)
        return found

    zfs.versions_below = slow  # type: ignore[method-assign, assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remembered.of, names[0])
        await trio.sleep(1)
        await zfs.snapshot(names[1], "2")
        remembered.expect(datasets)
        assert len(await remembered.of(names[1])) == 2


@pytest.mark.parametrize("side", ["sender", "receiver"])
async def test_a_snapshot_that_others_held_and_pruned_meanwhile_stops_nothing(
    pair: Pair, side: str
) -> None:
    pair.cable.moves_ranges = False
    await take(pair, range(3))
    await pair.run(options=RESUMABILITY)
    await take(pair, range(3, 5))
    zfs, dataset = (pair.source, A) if side == "sender" else (pair.target, pair.local("tank/a"))
    await zfs.hold(dataset, ["01"], "zrepl_STEP_J_other")
    again = zfs.world.open(dataset).snapshots

    async def prune(call: str, _dataset: str) -> None:
        if call == "open_send" and "01" in again:
            holds.release(zfs.world, "zrepl_STEP_J_other", [(str(dataset), "01")])
            del again["01"]

    pair.source.before = prune
    report = await pair.run(options=replace(RESUMABILITY, attempts=1))
    assert report.outcome is Outcome.DONE, report.error
    assert not [mark for mark in await pair.marks("tank/a") if "STEP" in mark]
    assert await pair.kept("tank/a") == {"@04=zrepl_last_received_J_dst"}


async def test_what_is_no_longer_encrypted_is_not_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pair = Pair(flags=SendFlags(encrypted=True))
    pair.source.add_filesystem("tank/a")
    pair.source.world.open("tank/a").local["encryption"] = "aes-256-gcm"
    await take(pair, range(2))
    await pair.sender.list_filesystems()
    await pair.sender.list_versions(A)
    v = await versions(pair)
    await pair.source.destroy_snapshots(A, ["00", "01"])
    await pair.source.destroy_filesystem(A)
    pair.source.add_filesystem("tank/a")
    await take(pair, range(2))
    with pytest.raises(Refused, match="is not encrypted"):
        async with pair.sender.send(SendRequest(filesystem=A, from_=v["00"], to=v["01"])):
            pass


async def test_the_report_does_not_say_that_all_of_a_range_arrived(pair: Pair) -> None:
    await take(pair, range(1))
    await pair.run(options=RESUMABILITY)
    await take(pair, range(1, 20))

    async def refuse(call: str, _dataset: str) -> None:
        if call == "bookmark":
            raise ZfsError("no bookmarks today")

    pair.cable.cut_after = 5 * 66_000
    pair.source.before = refuse
    report = await pair.run(options=replace(RESUMABILITY, attempts=1))
    pair.source.before = None
    assert "the link broke" in report.error
    assert "the receiver has it" not in report.error


async def test_a_dataset_that_appears_below_in_a_range_stops_it_once(pair: Pair) -> None:
    await take(pair, range(1), "tank/a", "tank/a/b")
    await pair.run(options=RESUMABILITY)
    await take(pair, range(1, 5), "tank/a", "tank/a/b")
    pair.fill("tank/a/c", 1000)
    await pair.snapshot("tank/a/c", "1")
    stranger = pair.local("tank/a").child("x")

    async def plant(call: str, dataset: str) -> None:
        if call == "open_receive" and dataset == pair.local("tank/a"):
            pair.target.before = None
            pair.target.add_filesystem(stranger)

    pair.target.before = plant
    report = await pair.run(options=replace(RESUMABILITY, attempts=1))
    assert f"{pair.local('tank/a')}: {stranger} appeared" in report.error
    assert await pair.received("tank/a/b") == [f"{number:02}" for number in range(5)]
    await take(pair, range(5, 8))
    report = await pair.run(options=RESUMABILITY)
    assert report.outcome is Outcome.DONE, report.error


async def test_a_range_brings_nothing_but_what_was_announced(pair: Pair) -> None:
    await take(pair, range(1))
    await pair.run(options=RESUMABILITY)
    await take(pair, range(1, 5))

    async def plant(call: str, dataset: str) -> None:
        if call == "versions" and dataset == pair.local("tank/a"):
            world = pair.target.world.open(dataset)
            if "04" in world.snapshots and "planted" not in world.snapshots:
                pair.target.before = None
                await pair.target.snapshot(DatasetPath(dataset), "planted")

    pair.target.before = plant
    report = await pair.run(options=replace(RESUMABILITY, attempts=1))
    assert "@planted came in a range" in report.error
