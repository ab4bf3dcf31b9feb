"""Which filesystems need no snapshot, since nothing was written."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.jobs.clocks import FollowingClock
from tests.replication.notation import path
from zrepl_trio.errors import ZfsError
from zrepl_trio.snapshots.unchanged import unchanged
from zrepl_trio.zfs.memory import MemoryZfs

A = path("tank/a")


# + takes one of the job, o one of others, w writes, d removes what was written
@pytest.mark.parametrize(
    ("story", "quiet"),
    [
        ("", False),  # it has none of ours
        ("o", False),
        ("+", True),
        ("w+", True),
        ("+w", False),
        ("+o", True),
        ("+wo", False),  # written since ours, though not since the newest
        ("+oow", False),
        ("w+d", False),
        ("+o+", True),
        ("+wo+o", True),
    ],
)
async def test_by_what_was_done_since_the_newest_of_the_job(story: str, *, quiet: bool) -> None:
    zfs = MemoryZfs(rng=random.Random(1), clock=FollowingClock(), pools=["tank"])
    zfs.add_filesystem(A)
    zfs.add_filesystem("tank/b")
    for number, step in enumerate(story):
        match step:
            case "+" | "o":
                await zfs.snapshot(A, f"{'zrepl_' if step == '+' else 'other_'}{number}")
            case "w":
                zfs.write(A, {"f": b"%d" % number})
            case _:
                zfs.write(A, {"f": None})
    found = await unchanged(zfs, await zfs.datasets(), "zrepl_")
    assert found == ({A} if quiet else set())


async def test_what_cannot_be_told_counts_as_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    zfs = MemoryZfs(rng=random.Random(1), clock=FollowingClock(), pools=["tank"])
    zfs.add_filesystem(A)
    await zfs.snapshot(A, "zrepl_1")

    async def cannot(paths: Sequence[object]) -> None:
        raise ZfsError("no pool")

    monkeypatch.setattr(zfs, "versions_below", cannot)
    assert await unchanged(zfs, await zfs.datasets(), "zrepl_") == frozenset()
