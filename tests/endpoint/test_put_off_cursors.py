"""Cursors that wait, while other clients of the job, other daemons and admins go on."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import Pair
from tests.replication.test_range_runs import KINDS, marks_now, take
from zrepl_trio.endpoint.model import GuaranteeKind, SendRequest
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import FilesystemVersion

A, B = path("tank/a"), path("tank/b")
STEP = "zrepl_STEP_J_src"
promising = pytest.mark.parametrize("kind", [GuaranteeKind.RESUMABILITY, GuaranteeKind.INCREMENTAL])
in_bulk = pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "one-by-one"])


@pytest.fixture
def pair(bulk: bool, monkeypatch: pytest.MonkeyPatch) -> Pair:
    async def bookmarks_in_bulk() -> bool:
        return bulk

    pair = Pair()
    monkeypatch.setattr(pair.source, "bookmarks_in_bulk", bookmarks_in_bulk)
    return pair


@pytest.fixture
def bulk() -> bool:
    return True


async def versions(pair: Pair) -> dict[str, FilesystemVersion]:
    return {v.name: v for v in await pair.source.versions(A) if v.is_snapshot}


def step(
    listed: dict[str, FilesystemVersion], from_: str, to: str, kind: GuaranteeKind
) -> SendRequest:
    protection = KINDS[kind].protection
    return SendRequest(filesystem=A, from_=listed[from_], to=listed[to], protection=protection)


def slow_at(pair: Pair, *calls: str, seconds: float = 1) -> None:
    async def slow(call: str, _dataset: str) -> None:
        if call in calls:
            await trio.sleep(seconds)

    pair.source.before = slow


async def protects(pair: Pair, version: FilesystemVersion) -> bool:
    return any(
        f"{version.guid:016x}" in mark or f"@{version.name}=" in mark
        for mark in await pair.marks("tank/a")
    )


@promising
@in_bulk
async def test_a_client_that_is_behind_does_not_undo_what_another_has_reached(
    pair: Pair, autojump_clock: trio.testing.MockClock, kind: GuaranteeKind
) -> None:
    await take(pair, range(1))
    await pair.run(options=KINDS[kind])
    await take(pair, range(1, 4))
    listed = await versions(pair)
    async with pair.sender.send(step(listed, "00", "03", kind)):
        pass
    slow_at(pair, "hold", "bookmark")

    async def behind() -> None:
        async with pair.sender.send(step(listed, "00", "01", kind)):
            await trio.sleep(3)
            await pair.sender.settle()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(behind)
        await trio.sleep(0.5)
        nursery.start_soon(pair.sender.send_completed, step(listed, "00", "03", kind))
    pair.source.before = None
    await pair.sender.send_completed(step(listed, "00", "01", kind))
    await pair.sender.settle()
    assert await protects(pair, listed["03"])


@promising
@in_bulk
async def test_nor_after_the_daemon_was_killed_before_the_cursor_moved(
    pair: Pair, autojump_clock: trio.testing.MockClock, kind: GuaranteeKind
) -> None:
    await take(pair, range(1))
    await pair.run(options=KINDS[kind])
    await take(pair, range(1, 4))
    listed = await versions(pair)
    async with pair.sender.send(step(listed, "00", "03", kind)):
        pass
    await pair.sender.send_completed(step(listed, "00", "03", kind))
    admitted = FilesystemFilter.of({"tank<": True, "tank": False})
    fresh = Sender(pair.source, job="src", filesystems=admitted)
    async with fresh.send(step(listed, "00", "01", kind)):
        await fresh.settle()
    await fresh.send_completed(step(listed, "00", "01", kind))
    await fresh.settle()
    assert await protects(pair, listed["03"])


@in_bulk
async def test_a_resumed_send_keeps_holds_that_another_was_about_to_drop(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    kind = GuaranteeKind.RESUMABILITY
    await take(pair, range(1))
    await pair.run(options=KINDS[kind])
    await take(pair, range(1, 5))
    listed = await versions(pair)
    async with pair.sender.send(step(listed, "01", "02", kind)):
        pass  # cut
    slow_at(pair, "hold")

    async def other() -> None:
        async with pair.sender.send(step(listed, "03", "04", kind)):
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.sleep(0.5)
        async with pair.sender.send(step(listed, "01", "02", kind)):
            await trio.sleep(3)
            await pair.sender.settle()
            assert {f"@01={STEP}", f"@02={STEP}"} <= marks_now(pair)


async def test_no_cursor_is_made_of_another_snapshot_of_that_name(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    kind = GuaranteeKind.INCREMENTAL
    await take(pair, range(2))
    listed = await versions(pair)
    async with pair.sender.send(step(listed, "00", "01", kind)):
        pass
    await pair.sender.send_completed(step(listed, "00", "01", kind))
    (result,) = await pair.source.destroy_snapshots(A, ["01"])
    assert not result.error
    await take(pair, range(1, 2))
    await pair.sender.settle()
    # the base of the next increment is what protected the stream
    bookmarks = [v for v in await pair.source.versions(A) if not v.is_snapshot]
    assert listed["01"].guid in {v.guid for v in bookmarks}
    assert not [v for v in bookmarks if "CURSOR_G_" in v.name]


async def test_a_peer_that_never_settles_waits_for_its_cursor(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    kind = GuaranteeKind.RESUMABILITY
    await take(pair, range(3))
    listed = await versions(pair)
    async with pair.sender.send(step(listed, "00", "01", kind)):
        pass
    slow_at(pair, "hold")

    async def other() -> None:
        async with pair.sender.send(step(listed, "01", "02", kind)):
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.sleep(0.5)
        request = step(listed, "00", "01", kind)
        await pair.sender.send_completed(
            SendRequest(
                filesystem=A,
                from_=request.from_,
                to=request.to,
                protection=request.protection,
                at_once=True,
            )
        )
        assert any("CURSOR_G" in mark for mark in marks_now(pair))


async def test_a_send_waits_for_nothing_of_other_filesystems(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    kind = GuaranteeKind.RESUMABILITY
    await take(pair, range(3), "tank/a", "tank/b")
    listed = await versions(pair)
    of_b = {v.name: v for v in await pair.source.versions(B) if v.is_snapshot}
    protection = KINDS[kind].protection
    other = SendRequest(filesystem=B, from_=of_b["00"], to=of_b["01"], protection=protection)
    async with pair.sender.send(other):
        pass
    await pair.sender.send_completed(other)

    async def hangs(_call: str, dataset: str) -> None:
        if dataset == B:
            await trio.sleep(600)

    pair.source.before = hangs
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.sender.settle)
        await trio.sleep(1)
        for from_, to in (("00", "01"), ("01", "02")):
            async with pair.sender.send(step(listed, from_, to, kind)):
                pass
            await pair.sender.send_completed(step(listed, from_, to, kind))
        assert trio.current_time() == 1
        nursery.cancel_scope.cancel()


async def test_a_cursor_that_never_moves_is_told_although_other_bookmarks_are_made(
    pair: Pair, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = GuaranteeKind.INCREMENTAL
    await take(pair, range(4))
    listed = await versions(pair)
    bookmark = pair.source.bookmark

    async def no_cursor(dataset: str, snapshot: FilesystemVersion, name: str) -> None:
        if "TENTATIVE" not in name:
            raise ZfsError("no cursor")
        await bookmark(path(dataset), snapshot, name)

    monkeypatch.setattr(pair.source, "bookmark", no_cursor)
    told = []
    for number in range(3):
        request = step(listed, f"{number:02}", f"{number + 1:02}", kind)
        try:
            async with pair.sender.send(request):
                pass
            await pair.sender.send_completed(request)
            await pair.sender.settle()
        except ZfsError as error:
            told.append(f"{number} {error}")
    assert told == ["1 no cursor", "2 no cursor"]


async def test_a_listing_in_the_middle_of_moving_is_not_believed(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    kind = GuaranteeKind.RESUMABILITY
    await take(pair, range(1))
    await pair.run(options=KINDS[kind])
    await take(pair, range(1, 3))
    listed = await versions(pair)
    async with pair.sender.send(step(listed, "00", "01", kind)):
        pass
    await pair.sender.send_completed(step(listed, "00", "01", kind))
    failing = ["bookmark"]

    async def once(call: str, _dataset: str) -> None:
        if call in failing:
            failing.clear()
            raise ZfsError("once")
        if call == "release":
            await trio.sleep(1)

    pair.source.before = once
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.sender.settle)
        await trio.sleep(0.5)
        await pair.sender.list_versions_of([A])
    pair.source.before = None
    async with pair.sender.send(step(listed, "01", "02", kind)):
        assert {f"@01={STEP}", f"@02={STEP}"} <= marks_now(pair)
