"""Snapshots of several datasets at one moment, and what was written since one: a part of the conformance suite."""

from __future__ import annotations

import pytest

from tests.zfs.host import Host, blob, relatives, snap, source, version
from zrepl_trio.errors import DatasetExists, DatasetNotFound
from zrepl_trio.zfs.batches import snapshot_refusals


async def check_snapshots_of_several_are_of_one_moment(host: Host) -> None:
    paths = [await source(host, name) for name in ("one", "two", "three")]
    below = paths[0].child("below")
    await host.zfs.create_filesystem(below, {})
    for number, path in enumerate(paths):
        await host.write(path, {"f": blob(1000, number)})
    await host.zfs.snapshot_all([*paths, below], "1")
    taken = [await version(host, path, "@1") for path in (*paths, below)]
    assert len({each.createtxg for each in taken}) == 1
    assert len({each.guid for each in taken}) == 4
    later = await snap(host, paths[0], "2")
    assert later.createtxg > taken[0].createtxg


async def check_of_several_snapshots_all_are_taken_or_none(host: Host) -> None:
    zfs = host.zfs
    one, two, three = [await source(host, name) for name in ("one", "two", "three")]
    await zfs.snapshot(two, "1")
    with pytest.raises(DatasetExists, match="two@1") as caught:
        await zfs.snapshot_all([one, two, three], "1")
    assert set(snapshot_refusals(caught.value.stderr)) == {two}
    missing = host.root.child("missing")
    with pytest.raises(DatasetNotFound) as gone:
        await zfs.snapshot_all([one, missing, three], "1")
    assert set(snapshot_refusals(gone.value.stderr)) == {missing}
    assert await relatives(host, one) == await relatives(host, three) == []


async def check_what_was_written_since_a_snapshot(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)

    async def written(*since: str) -> list[bool]:
        names = [f"written@{name}" for name in since]
        found = await zfs.properties(path, names)
        return [found[name].value != "0" for name in names]

    await host.write(path, {"f": blob(100_000)})
    await zfs.snapshot(path, "1_00:00:00")
    await zfs.snapshot(path, "2")
    assert await written("1_00:00:00", "2") == [False, False]
    await host.write(path, {"g": blob(100_000, 2)})
    await zfs.snapshot(path, "3")
    assert await written("1_00:00:00", "2", "3") == [True, True, False]
    shown = await zfs.dataset(path)
    assert shown is not None
    assert shown.written == 0
    assert (await zfs.properties(path, ["written@none"]))["written@none"].value == "-"
