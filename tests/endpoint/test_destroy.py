"""What is destroyed for a peer, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.replication.notation import path
from tests.replication.pair import Pair
from zrepl_trio.endpoint.abstractions import last_received_tag
from zrepl_trio.endpoint.refusals import is_left_alone
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

A = path("tank/a")


async def test_one_result_a_snapshot_in_order(pair: Pair) -> None:
    for name in "2345":
        await pair.snapshot("tank/a", name)
    listed = {v.name: v for v in await pair.source.versions(A)}
    await pair.source.hold(A, ["2"], "mine")
    wanted: list[FilesystemVersion] = [
        listed["3"],
        replace(listed["4"], guid=1),
        listed["2"],
        replace(listed["1"], name="gone"),
        listed["5"],
    ]
    results = await pair.sender.destroy_snapshots(A, wanted)
    assert [r.name for r in results] == ["3", "4", "2", "gone", "5"]
    assert [bool(r.error) for r in results] == [False, True, True, False, False]
    assert "left alone" in results[1].error
    assert [v.name for v in await pair.source.versions(A)] == ["1", "2", "4"]


@pytest.mark.parametrize("held_by", [last_received_tag("sink"), "legal"])
async def test_what_was_received_last_is_not_lost_before_its_hold_has_moved(
    pair: Pair, held_by: str
) -> None:
    """The host was reset between the two, and whoever has it from here comes first."""
    for name in "23":
        await pair.snapshot("tank/a", name)
    listed = await pair.source.versions(A)
    await pair.source.hold(A, ["1"], held_by)
    results = await pair.sender.destroy_snapshots(A, listed[1:])
    left = [r.name for r in results if r.error]
    assert left == (["3"] if held_by != "legal" else [])
    assert all(is_left_alone(r.error) for r in results if r.error)
    # it goes as soon as another is there
    await pair.snapshot("tank/a", "4")
    await pair.sender.destroy_snapshots(A, listed[1:])
    assert [v.name for v in await pair.source.versions(A)] == ["1", "4"]


async def test_nothing_to_do_runs_nothing(pair: Pair) -> None:
    calls = len(pair.source.calls)
    assert await pair.sender.destroy_snapshots(A, []) == []
    assert len(pair.source.calls) == calls


async def test_a_bookmark_refuses_the_whole_call(pair: Pair) -> None:
    (one,) = await pair.source.versions(A)
    with pytest.raises(Refused, match="version 'b' is not a snapshot"):
        await pair.sender.destroy_snapshots(
            A, [one, replace(one, name="b", kind=VersionKind.BOOKMARK)]
        )
    assert [v.name for v in await pair.source.versions(A)] == ["1"]
