"""Bookmarks and holds, of one dataset and of several: a part of the conformance suite."""

from __future__ import annotations

import pytest

from tests.zfs.host import Host, relatives, snap, source, version
from zrepl_trio.errors import DatasetExists, DatasetNotFound, ZfsError
from zrepl_trio.zfs.model import VersionKind


async def check_bookmarks(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    one, two = await snap(host, path, "1"), await snap(host, path, "2")
    await zfs.bookmark(path, one, "b")
    await zfs.bookmark(path, one, "b")
    with pytest.raises(DatasetExists, match="src#b"):
        await zfs.bookmark(path, two, "b")
    mark = await version(host, path, "#b")
    await zfs.bookmark(path, mark, "b")
    assert await relatives(host, path) == ["#b", "@1", "@2"]
    assert (mark.kind, mark.guid) == (VersionKind.BOOKMARK, one.guid)
    await zfs.destroy_bookmark(path, "b")
    await zfs.destroy_bookmark(path, "b")
    assert await relatives(host, path) == ["@1", "@2"]


async def check_bookmark_of_a_bookmark_is_refused_unless_there(host: Host) -> None:
    path = await source(host)
    one = await snap(host, path, "1")
    await host.zfs.bookmark(path, one, "b")
    mark = await version(host, path, "#b")
    with pytest.raises(ZfsError, match="#c"):
        await host.zfs.bookmark(path, mark, "c")


async def check_bookmark_of_missing_snapshot(host: Host) -> None:
    path = await source(host)
    gone = await snap(host, path, "1")
    await host.zfs.destroy_snapshots(path, ["1"])
    with pytest.raises(DatasetNotFound, match="src"):
        await host.zfs.bookmark(path, gone, "b")


async def check_bookmarks_of_several(host: Host) -> None:
    """Whether by one call or by many: what is there already and what is gone already is no failure, and nothing is
    destroyed unless all was made."""
    zfs = host.zfs
    one, two = await source(host, "one"), await source(host, "two")
    first, second = await snap(host, one, "1"), await snap(host, two, "2")
    make = {one: {"a": first, "b": first}, two: {"c": second}}
    await zfs.change_bookmarks(make, {})
    await zfs.change_bookmarks({**make, two: {"c": second, "d": second}}, {})

    async def marks() -> list[str]:
        found = [(path, v) for path in (one, two) for v in await zfs.versions(path)]
        return sorted(v.full(path) for path, v in found if not v.is_snapshot)

    assert await marks() == [f"{one}#a", f"{one}#b", f"{two}#c", f"{two}#d"]
    (a,) = [v for v in await zfs.versions(one) if v.relative == "#a"]
    assert (a.guid, a.createtxg) == (first.guid, first.createtxg)
    third = await snap(host, one, "3")
    with pytest.raises(DatasetExists):
        await zfs.change_bookmarks({one: {"a": third}}, {two: ["c", "d"], one: ["b"]})
    assert await marks() == [f"{one}#a", f"{one}#b", f"{two}#c", f"{two}#d"]
    await zfs.change_bookmarks({one: {"e": third}}, {one: ["a", "nosuch"], two: ["c", "d"]})
    assert await marks() == [f"{one}#b", f"{one}#e"]
    await zfs.change_bookmarks({}, {one: ["b", "e", "a"], host.root.child("nosuch"): ["x"]})
    assert await marks() == []
    # a name that another snapshot has by now: once with others, and once alone
    await zfs.change_bookmarks({one: {"base": first}}, {})
    (result,) = await zfs.destroy_snapshots(one, ["3"])
    assert not result.error
    await snap(host, one, "3")
    for others in ({two: {"c": second, "d": second, "e": second}}, {}):
        with pytest.raises(DatasetExists, match="another snapshot has its name"):
            await zfs.change_bookmarks({one: {"new": third}, **others}, {one: ["base"]})
        assert f"{one}#base" in await marks()
        assert f"{one}#new" not in await marks()


async def check_holds(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    for name in "123":
        await zfs.snapshot(path, name)
    assert await zfs.holds(path, []) == []
    await zfs.hold(path, ["1"], "tag one")
    await zfs.hold(path, ["1", "2"], "tag one")
    await zfs.hold(path, ["2"], "other")
    held = {(h.snapshot, h.tag) for h in await zfs.holds(path, ["1", "2", "3"])}
    assert held == {("1", "tag one"), ("2", "tag one"), ("2", "other")}
    assert {h.dataset for h in await zfs.holds(path, ["1"])} == {path}
    await zfs.release(path, ["1", "2", "3", "nosuch"], "tag one")
    await zfs.release(path, ["1"], "tag one")
    assert [(h.snapshot, h.tag) for h in await zfs.holds(path, ["1", "2", "3"])] == [("2", "other")]
    with pytest.raises(DatasetNotFound, match="src@nosuch"):
        await zfs.hold(path, ["3", "nosuch"], "tag")


async def check_holds_of_several(host: Host) -> None:
    zfs = host.zfs
    one, two = await source(host, "one"), await source(host, "two")
    for path in (one, two):
        for name in ("1", "2"):
            await zfs.snapshot(path, name)
    await zfs.hold_of({one: ["1"], two: ["2"]}, "tag")
    await zfs.hold_of({one: ["1", "2"], two: ["2"]}, "tag")  # some are there already
    await zfs.hold(two, ["2"], "other")
    with pytest.raises(DatasetNotFound):
        await zfs.hold_of({one: ["1"], two: ["nosuch"]}, "tag")
    found = await zfs.holds_of({one: ["1"], two: ["1", "2"]})
    assert found[one] == await zfs.holds(one, ["1"])
    assert {(hold.dataset, hold.snapshot, hold.tag) for hold in found[two]} == {
        (two, "2", "tag"),
        (two, "2", "other"),
    }
    with pytest.raises(DatasetNotFound):
        await zfs.holds_of({one: ["1"], two: ["nosuch"]})
    await zfs.release_of({one: ["1", "2"], two: ["2"]}, "tag")
    await zfs.release_of({one: ["1"], two: ["2"]}, "other")
    assert await zfs.holds_of({one: ["1"], two: ["1", "2"]}) == {}
