"""Several snapshots at one moment: what one that fails costs the others."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import structlog

from tests.jobs.clocks import FollowingClock
from tests.replication.notation import path
from zrepl_trio.errors import ZfsError
from zrepl_trio.snapshots.together import Together, take_alone, take_together
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

A, B, C = path("tank/a"), path("tank/b"), path("tank/c")
OTHER = path("other/a")


@pytest.fixture
async def zfs() -> MemoryZfs:
    made = MemoryZfs(rng=random.Random(1), clock=FollowingClock(), pools=["tank", "other"])
    for each in (A, B, C, OTHER):
        made.add_filesystem(each)
    return made


async def moments(zfs: MemoryZfs, *paths: DatasetPath) -> list[int]:
    return [version.createtxg for each in paths for version in await zfs.versions(each)]


def commands(zfs: MemoryZfs) -> list[str]:
    return [call for call in zfs.calls if call.startswith("snapshot")]


async def test_all_of_a_pool_are_of_one_moment(zfs: MemoryZfs) -> None:
    assert await take_together(zfs, [A, OTHER, B, C], "s") == Together()
    assert len(commands(zfs)) == 2
    found = await moments(zfs, A, B, C)
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(await moments(zfs, OTHER)) == 1


@pytest.mark.parametrize("gone", [True, False])
async def test_the_others_stay_together_when_zfs_names_who_is_in_the_way(
    zfs: MemoryZfs, *, gone: bool
) -> None:
    if gone:
        await zfs.destroy_filesystem(B)
    else:
        await zfs.snapshot(B, "s")
    result = await take_together(zfs, [A, B, C], "s")
    assert list(result.errors) == [B]
    assert "tank/b" in result.errors[B]
    assert result.apart == {}
    assert len(set(await moments(zfs, A, C))) == 1


async def test_what_can_be_taken_only_afterwards_is_told(
    zfs: MemoryZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = zfs.snapshot_all

    async def busy(paths: Sequence[DatasetPath], name: str) -> None:
        if B in paths:
            raise ZfsError("no", stderr=f"cannot create snapshot '{B}@{name}': dataset is busy\n")
        await together(paths, name)

    monkeypatch.setattr(zfs, "snapshot_all", busy)
    result = await take_together(zfs, [A, B, C], "s")
    assert result == Together(apart={"tank": "only afterwards could be taken: tank/b"})
    one, two, three = await moments(zfs, A, B, C)
    assert one == three < two


async def test_a_failure_that_names_none_has_them_taken_one_by_one_and_told(
    zfs: MemoryZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(paths: Sequence[DatasetPath], name: str) -> None:
        del paths, name
        raise ZfsError("zfs says no", stderr="internal error: no\n")

    monkeypatch.setattr(zfs, "snapshot_all", fails)
    await zfs.destroy_filesystem(B)
    with structlog.testing.capture_logs() as log:
        result = await take_together(zfs, [A, B, C], "s")
    assert list(result.errors) == [B]
    assert result.apart == {"tank": "taken one by one, as all at once failed: zfs says no"}
    assert len(set(await moments(zfs, A, C))) == 2
    (line,) = [line for line in log if "not of one moment" in line["event"]]
    assert (line["pool"], line["log_level"]) == ("tank", "warning")


async def test_a_zfs_that_hangs_is_not_asked_for_each(
    zfs: MemoryZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(paths: Sequence[DatasetPath], name: str) -> None:
        del paths, name
        raise ZfsError("did nothing for 600 s and was killed")

    monkeypatch.setattr(zfs, "snapshot_all", hangs)
    result = await take_together(zfs, [A, B], "s")
    assert result == Together(errors=dict.fromkeys((A, B), "did nothing for 600 s and was killed"))
    assert commands(zfs) == []


async def test_thousands_are_of_one_moment_as_long_as_a_command_takes_their_names(
    zfs: MemoryZfs,
) -> None:
    many = [zfs.add_filesystem(f"tank/{number:0200}") for number in range(1000)]
    with structlog.testing.capture_logs() as log:
        assert await take_together(zfs, many, "s") == Together()
    assert log == []
    assert len(commands(zfs)) == 1
    assert len(set(await moments(zfs, *many))) == 1


async def test_more_names_than_a_command_takes_are_warned_of_once_and_no_error(
    zfs: MemoryZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # each takes `tank/a@s`, its end and a pointer
    monkeypatch.setattr(zfs, "argument_bytes", 2 * (8 + 1 + 8))
    with structlog.testing.capture_logs() as log:
        assert await take_together(zfs, [A, B, C, OTHER], "s") == Together()
    (line,) = log
    assert (line["log_level"], line["pools"]) == ("warning", "tank: 3 snapshots by 2 commands")
    assert len(commands(zfs)) == 3
    one, two, three = await moments(zfs, A, B, C)
    assert one == two < three


async def test_alone_each_has_its_own_moment(zfs: MemoryZfs) -> None:
    await zfs.destroy_filesystem(B)
    result = await take_alone(zfs, [A, B, C], "s")
    assert list(result.errors) == [B]
    assert len(set(await moments(zfs, A, C))) == 2
