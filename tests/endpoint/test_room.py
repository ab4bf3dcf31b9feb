"""Placeholders step aside for what zfs does not receive over them, and children keep their names."""

from __future__ import annotations

import random

import pytest
import trio

from tests.fakes.endpoint import FakeSource
from tests.jobs.clocks import FollowingClock
from tests.replication.notation import path
from tests.zfs.test_streamhead import PACKAGE, RAW, package, record
from zrepl_trio.endpoint.room import bring_back, comes_raw, make_room, room_for
from zrepl_trio.errors import Refused, ZfsError
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.streamhead import RECORD_BYTES

P = path("tank/p")
ASIDE = path("tank/p.diverged-placeholder")


@pytest.fixture
async def zfs(autojump_clock: object) -> MemoryZfs:
    made = MemoryZfs(rng=random.Random(1), clock=FollowingClock(), pools=["tank"])
    for name in ("tank/p/a/b", "tank/p/c"):
        made.add_filesystem(name)
    return made


async def names(zfs: MemoryZfs) -> set[str]:
    return {str(dataset.path) for dataset in await zfs.datasets()} - {"tank"}


BELOW = {"/a", "/a/b", "/c"}


async def test_it_steps_aside_with_all_below_it_and_that_comes_back(zfs: MemoryZfs) -> None:
    await make_room(zfs, P)
    assert await names(zfs) == {ASIDE, *(f"{ASIDE}{each}" for each in BELOW)}
    zfs.add_filesystem(P)  # what was received
    await bring_back(zfs, P)
    assert await names(zfs) == {P, *(f"{P}{each}" for each in BELOW)}
    await bring_back(zfs, P)  # nothing to do


async def test_a_name_that_is_too_long_for_that_is_refused_and_else_no_matter(
    zfs: MemoryZfs,
) -> None:
    long = zfs.add_filesystem(f"tank/{'x' * 245}")
    with pytest.raises(Refused, match="too long a name"):
        await make_room(zfs, long)
    await bring_back(zfs, long)
    assert long in await names(zfs)


async def test_if_nothing_came_it_is_as_it_was(zfs: MemoryZfs) -> None:
    before = await names(zfs)
    await make_room(zfs, P)
    await bring_back(zfs, P)
    assert await names(zfs) == before


@pytest.mark.parametrize("received", [False, True])
async def test_a_receive_that_is_cancelled_leaves_nothing_aside(
    zfs: MemoryZfs, *, received: bool
) -> None:
    before = await names(zfs)
    with trio.move_on_after(1) as scope:
        async with room_for(zfs, P, needed=True, first=True):
            if received:
                zfs.add_filesystem(P)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await names(zfs) == before


async def test_an_increment_does_not_even_look(zfs: MemoryZfs) -> None:
    zfs.calls.clear()
    async with room_for(zfs, P, needed=False, first=False):
        pass
    assert not zfs.calls


async def test_what_a_killed_daemon_left_aside_is_joined(zfs: MemoryZfs) -> None:
    await make_room(zfs, P)
    zfs.add_filesystem("tank/p/d")  # a child that was new made the placeholder again
    await make_room(zfs, P)
    assert await names(zfs) == {ASIDE, *(f"{ASIDE}{each}" for each in (*BELOW, "/d"))}


async def test_what_cannot_come_back_waits_for_planning(
    zfs: MemoryZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_room(zfs, P)
    zfs.add_filesystem(P)

    async def refuse(_old: DatasetPath, _new: DatasetPath) -> None:
        raise ZfsError("not now")

    monkeypatch.setattr(zfs, "rename", refuse)
    await bring_back(zfs, P)
    assert ASIDE in await names(zfs)


class Shown(FakeSource):
    """A stream that shows its head, as one from the wire does."""

    def __init__(self, data: bytes) -> None:
        super().__init__(trio.testing.MemoryReceiveStream())
        self.data = data
        self.looked: list[int] = []

    async def head(self, count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.looked.append(count)
        return self.data[:count]


async def test_a_stream_from_the_wire_is_asked_whether_it_is_raw() -> None:
    plain, packed = record("<", features=RAW), package(">", RAW)
    for data, looked in ((plain, [RECORD_BYTES]), (packed, [RECORD_BYTES, len(packed)])):
        stream = Shown(data + b"more")
        assert await comes_raw(stream)
        assert stream.looked == looked
    stream = Shown(record("<", payload=0xFFFF_FFFF, form=PACKAGE) + bytes(1000))
    assert await comes_raw(stream) is None
    assert stream.looked == [RECORD_BYTES]
    assert await comes_raw(Shown(b"")) is None
    assert await comes_raw(FakeSource.of(plain)) is None  # a pipe of our own shows nothing
