"""What every holder of the `Zfs` port must do: run against memory, the emulation and real OpenZFS.

Each `check_*` takes a `Host` whose `root` is an empty filesystem of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.zfs import conformance_packed
from tests.zfs.host import (
    MIB,
    PLACEHOLDER,
    Host,
    blob,
    read_send,
    receive,
    relatives,
    replicate,
    snap,
    source,
    version,
)
from zrepl_trio.errors import (
    BadResumeToken,
    DatasetExists,
    DatasetNotFound,
    NoSpace,
    ReceiveInterrupted,
    ReceiveRefused,
    ZfsError,
)
from zrepl_trio.zfs.model import (
    PropertySource,
    ReceiveArgs,
    SendArgs,
    SendFlags,
    VersionKind,
)
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import legacy_hash


async def check_listing_of_datasets(host: Host) -> None:
    zfs, root = host.zfs, host.root
    for name in ("b", "a", "a/c", "a-b"):
        await zfs.create_filesystem(root.child(name), {})
    listed = await zfs.datasets([root])
    names = [d.path for d in listed]
    assert sorted(names) == sorted([root, *(root.child(n) for n in ("a", "a/c", "a-b", "b"))])
    assert all(
        names.index(d.path.parent) < names.index(d.path) for d in listed[1:] if d.path.parent
    )
    assert len({d.guid for d in listed}) == 5
    assert all(not d.is_volume and not d.is_placeholder for d in listed)
    assert all(d.resume_token is None and d.source_guid is None for d in listed)
    alone = await zfs.dataset(root.child("a/c"))
    assert alone in listed
    assert {d.path for d in await zfs.datasets([root.child("a"), root.child("b")])} == {
        root.child("a"),
        root.child("a/c"),
        root.child("b"),
    }
    assert set(names) <= {d.path for d in await zfs.datasets()}


async def check_missing_datasets(host: Host) -> None:
    zfs, missing = host.zfs, host.root.child("nosuch")
    nopool = DatasetPath.parse("nosuchpool/x")
    assert await zfs.dataset(missing) is None
    assert await zfs.dataset(nopool) is None
    for path in (missing, nopool):
        for call in (
            lambda path=path: zfs.datasets([path]),
            lambda path=path: zfs.versions(path),
            lambda path=path: zfs.versions_below([path]),
            lambda path=path: zfs.properties(path, ["guid"]),
            lambda path=path: zfs.set_properties(path, {"a:b": "c"}),
            lambda path=path: zfs.snapshot(path, "s"),
            lambda path=path: zfs.rollback(path, "s"),
            lambda path=path: zfs.hold(path, ["s"], "tag"),
            lambda path=path: zfs.holds(path, ["s"]),
            lambda path=path: zfs.create_filesystem(path.child("x"), {}),
        ):
            with pytest.raises(DatasetNotFound) as caught:
                await call()
            assert path in str(caught.value)
        await zfs.release(path, ["s"], "tag")
        await zfs.destroy_bookmark(path, "b")
        await zfs.abort_receive(path)
        assert [r.error for r in await zfs.destroy_snapshots(path, ["s"])] == [""]


async def check_placeholders(host: Host) -> None:
    zfs, root = host.zfs, host.root
    top, below, old = root.child("top"), root.child("top/below"), root.child("old")
    await zfs.create_filesystem(top, PLACEHOLDER)
    await zfs.create_filesystem(below, {})
    await zfs.create_filesystem(old, {"zrepl:placeholder": legacy_hash(old)})
    flags = {d.path: d.is_placeholder for d in await zfs.datasets([root])}
    assert flags == {root: False, top: True, below: False, old: True}
    await zfs.set_properties(top, {"zrepl:placeholder": "off"})
    await zfs.set_properties(old, {"zrepl:placeholder": legacy_hash(top)})
    listed = await zfs.datasets([root])
    assert not any(d.is_placeholder for d in listed)
    values = {d.path: d.placeholder_value for d in listed}
    assert values == {root: "", top: "off", below: "", old: legacy_hash(top)}


async def check_source_guid_is_local(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    await zfs.create_filesystem(path.child("below"), {})
    await zfs.set_properties(path, {"zrepl-trio:source-guid": "18446744073709551615"})
    guids = {d.path: d.source_guid for d in await zfs.datasets([path])}
    assert guids == {path: 18446744073709551615, path.child("below"): None}


async def check_listing_of_versions(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    other = await source(host, "other")
    assert await zfs.versions(path) == []
    one = await snap(host, path, "1")
    await zfs.bookmark(path, one, "mark 1:x")
    await zfs.snapshot(path, "2")
    await zfs.hold(path, ["2"], "tag")
    await zfs.snapshot(other, "o")
    listed = await zfs.versions(path)
    assert [v.relative for v in listed] == ["#mark 1:x", "@1", "@2"]
    assert [v.userrefs for v in listed] == [None, 0, 1]
    assert listed[0].guid == listed[1].guid == one.guid != listed[2].guid
    assert listed[0].createtxg == listed[1].createtxg < listed[2].createtxg
    assert listed[0].creation == listed[1].creation <= listed[2].creation
    below = await zfs.versions_below([host.root])
    assert below == {path: listed, other: await zfs.versions(other)}


# -- properties ------------------------------------------------------------------------------


async def check_properties(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    below = path.child("below")
    await zfs.create_filesystem(below, {"readonly": "on"})
    await zfs.set_properties(path, {"a:b": "two words = x", "a:c": ""})
    got = await zfs.properties(path, ["a:b", "a:c", "a:none", "readonly", "guid"])
    assert list(got) == ["a:b", "a:c", "a:none", "readonly", "guid"]
    assert (got["a:b"].value, got["a:b"].source) == ("two words = x", PropertySource.LOCAL)
    assert (got["a:c"].value, got["a:c"].source) == ("", PropertySource.LOCAL)
    assert (got["a:none"].value, got["a:none"].source) == ("-", PropertySource.NONE)
    assert (got["readonly"].value, got["readonly"].source) == ("off", PropertySource.DEFAULT)
    found = await zfs.dataset(path)
    assert found is not None
    assert int(got["guid"].value) == found.guid
    got = await zfs.properties(below, ["a:b", "readonly"])
    assert (got["a:b"].value, got["a:b"].source) == ("two words = x", PropertySource.INHERITED)
    assert (got["readonly"].value, got["readonly"].source) == ("on", PropertySource.LOCAL)


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


async def check_properties_of_a_snapshot(host: Host) -> None:
    path = await source(host)
    taken = await snap(host, path, "1")
    await host.zfs.hold(path, ["1"], "tag")
    full = f"{path}@1"
    names = [
        "guid",
        "createtxg",
        "creation",
        "userrefs",
        "encryption",
        "zrepl:placeholder",
        "quota",
    ]
    got = await host.zfs.properties_of([path, full], names)
    assert int(got[full]["guid"].value) == taken.guid
    assert int(got[full]["createtxg"].value) == taken.createtxg
    assert int(got[full]["creation"].value) == taken.creation
    assert got[full]["userrefs"].value == "1"
    assert got[path]["guid"].value != got[full]["guid"].value
    await host.zfs.release(path, ["1"], "tag")
    with pytest.raises(DatasetNotFound):
        await host.zfs.properties_of([path, f"{path}@2"], ["guid"])


async def check_properties_of_several(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    below = path.child("below")
    await zfs.create_filesystem(below, {"readonly": "on"})
    names = ["a:b", "readonly", "keylocation", "encryption", "volsize"]
    got = await zfs.properties_of([below, path], names)
    assert list(got) == [below, path]
    assert list(got[path]) == names
    assert [got[each]["readonly"].value for each in (path, below)] == ["off", "on"]
    assert {got[path][name].value for name in ("a:b", "volsize")} == {"-"}
    assert (got[path]["keylocation"].value, got[path]["encryption"].value) == ("none", "off")
    assert got[path]["keylocation"].source is not PropertySource.RECEIVED
    with pytest.raises(DatasetNotFound, match="nosuch"):
        await zfs.properties_of([path, path.child("nosuch")], names)


async def check_encryption_is_as_asked_for(host: Host) -> None:
    """What a placeholder inherits or not, and what becomes of a plain and of a raw stream there."""
    zfs, root = host.zfs, host.root

    async def sealed(path: DatasetPath) -> tuple[bool, str]:
        found = await zfs.properties(path, ["encryption", "encryptionroot"])
        return found["encryption"].value not in {"off", "-"}, found["encryptionroot"].value

    with tempfile.NamedTemporaryFile("w") as key:
        key.write("12345678\n")
        key.flush()
        options = {"keyformat": "passphrase", "keylocation": f"file://{key.name}"}
        enc = root.child("enc")
        await zfs.create_filesystem(enc, {"encryption": "on", **options})
    inside, outside = enc.child("inside"), enc.child("outside")
    await zfs.create_filesystem(inside, PLACEHOLDER)
    await zfs.create_filesystem(outside, {**PLACEHOLDER, "encryption": "off"})
    assert await sealed(root) == (False, "-")
    assert await sealed(enc) == await sealed(inside) == (True, enc)
    assert await sealed(outside) == (False, "-")
    plain = await source(host)
    one = await snap(host, plain, "1")
    await replicate(host, plain, one, inside.child("dst"))
    await replicate(host, plain, one, outside.child("dst"))
    assert await sealed(inside.child("dst")) == (True, enc)
    assert await sealed(outside.child("dst")) == (False, "-")
    secret = await snap(host, inside, "1")
    args = SendArgs(dataset=inside, to=secret, flags=SendFlags(encrypted=True))
    raw = root.child("raw")
    await receive(host, ReceiveArgs(dataset=raw, snapshot="1"), await read_send(host, args))
    assert await sealed(raw) == (True, raw)
    assert (await zfs.properties(raw, ["keylocation"]))["keylocation"].value == "prompt"


async def check_destroying_a_filesystem_takes_nothing_with_it(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    below = path.child("below")
    await zfs.create_filesystem(below, PLACEHOLDER)
    with pytest.raises(ZfsError, match="src"):
        await zfs.destroy_filesystem(path)
    await zfs.snapshot(below, "1")
    with pytest.raises(ZfsError, match="below"):
        await zfs.destroy_filesystem(below)
    await zfs.destroy_snapshots(below, ["1"])
    await zfs.destroy_filesystem(below)
    assert await zfs.dataset(below) is None
    assert await zfs.dataset(path) is not None
    with pytest.raises(DatasetNotFound, match="below"):
        await zfs.destroy_filesystem(below)


async def check_what_exists_is_not_made_again(host: Host) -> None:
    path = await source(host)
    await host.zfs.snapshot(path, "1")
    with pytest.raises(DatasetExists, match="src"):
        await host.zfs.create_filesystem(path, {})
    with pytest.raises(DatasetExists, match="src@1"):
        await host.zfs.snapshot(path, "1")


# -- bookmarks, holds, destruction -----------------------------------------------------------


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


async def check_destroying_snapshots(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    for name in ("a", "b", "c", "d", "e"):
        await zfs.snapshot(path, name)
    await zfs.hold(path, ["b", "d"], "tag")
    results = await zfs.destroy_snapshots(path, ["d", "c", "b", "nosuch", "a"])
    assert [r.name for r in results] == ["d", "c", "b", "nosuch", "a"]
    assert [bool(r.error) for r in results] == [True, False, True, False, False]
    assert all("hold" in r.error for r in results if r.error)
    assert await relatives(host, path) == ["@b", "@d", "@e"]
    await zfs.release(path, ["b", "d"], "tag")
    assert [r.error for r in await zfs.destroy_snapshots(path, ["b"])] == [""]
    assert await zfs.destroy_snapshots(path, []) == []
    assert await relatives(host, path) == ["@d", "@e"]


async def check_rollback(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    await host.write(path, {"f": b"one"})
    await zfs.snapshot(path, "1")
    await host.write(path, {"f": b"two", "g": b"new"})
    await zfs.snapshot(path, "2")
    await zfs.rollback(path, "1")
    assert await relatives(host, path) == ["@1"]
    assert await host.read(path) == {"f": b"one"}
    with pytest.raises(DatasetNotFound, match="src"):
        await zfs.rollback(path, "2")


# -- renaming --------------------------------------------------------------------------------


async def check_rename_takes_all_along(host: Host) -> None:
    zfs, root = host.zfs, host.root
    old, new = await source(host), root.child("into/dst")
    await zfs.create_filesystem(root.child("into"), {})
    await zfs.create_filesystem(old.child("below"), {})
    await zfs.create_filesystem(root.child("src-beside"), {})
    await host.write(old, {"f": b"1", "later": b""})
    await host.write(old.child("below"), {"g": b"2"})
    one = await snap(host, old, "1")
    await zfs.bookmark(old, one, "b")
    await zfs.hold(old, ["1"], "tag")
    await zfs.set_properties(old, {"a:b": "c"})
    await host.write(old, {"later": b"in no snapshot"})
    guids = {d.path.relative_to(root): d.guid for d in await zfs.datasets([old])}
    versions = await zfs.versions(old)

    await zfs.rename(old, new)

    assert await zfs.dataset(old) is None
    assert await zfs.dataset(root.child("src-beside")) is not None
    moved = {d.path.relative_to(root): d.guid for d in await zfs.datasets([new])}
    assert moved == {name.replace("src", "into/dst"): guid for name, guid in guids.items()}
    assert await zfs.versions(new) == versions
    assert [(h.dataset, h.tag) for h in await zfs.holds(new, ["1"])] == [(new, "tag")]
    inherited = await zfs.properties(new.child("below"), ["a:b"])
    assert inherited["a:b"].value == "c"
    files = await host.read(new)  # with those of what is mounted below, where that is so
    assert (files["f"], files["later"]) == (b"1", b"in no snapshot")
    assert await host.read(new.child("below")) == {"g": b"2"}
    await zfs.rename(new, new)
    # its names are free again, and increments go on
    await zfs.create_filesystem(old, {})
    two = await snap(host, new, "2")
    await replicate(host, new, one, root.child("copy"))
    await zfs.rename(root.child("copy"), old.child("copy"))
    await replicate(host, new, two, old.child("copy"), one)
    assert (await host.read(old.child("copy")))["later"] == b"in no snapshot"


async def check_rename_to_where_nothing_is_mounted(host: Host) -> None:
    zfs, root = host.zfs, host.root
    path, away = await source(host), root.child("away")
    await host.write(path, {"f": b"1"})
    await zfs.create_filesystem(away, PLACEHOLDER)
    await zfs.rename(path, away.child("src"))
    got = await zfs.properties(away.child("src"), ["mountpoint", "mounted"])
    assert [p.value for p in got.values()] == ["none", "no"]
    await zfs.rename(away.child("src"), path)
    assert await host.read(path) == {"f": b"1"}


async def check_rename_of_what_was_partly_sent(host: Host) -> None:
    zfs, root = host.zfs, host.root
    path, target = await source(host), root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole[:MIB])
    await zfs.rename(path, root.child("src2"))
    await zfs.rename(target, root.child("dst2"))
    found = await zfs.dataset(root.child("dst2"))
    assert found is not None
    assert found.resume_token == caught.value.token
    args = SendArgs(dataset=root.child("src2"), to=one, token=found.resume_token)
    rest = await read_send(host, args)
    assert len(rest) < len(whole) - MIB // 2
    await receive(host, ReceiveArgs(dataset=root.child("dst2"), snapshot="1"), rest)
    assert await host.read(root.child("dst2")) == {"f": blob(2 * MIB)}


async def check_rename_while_receiving(host: Host) -> None:
    zfs, root = host.zfs, host.root
    path, target = await source(host), root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    async with zfs.open_receive(ReceiveArgs(dataset=target, snapshot="1")) as recv:
        await recv.writer.send_all(whole[: MIB + MIB // 2])
        with trio.fail_after(30):
            while await zfs.dataset(target) is None:  # noqa: ASYNC110 - only zfs knows
                await trio.sleep(0.05)
        await zfs.rename(target, root.child("dst2"))
        await recv.writer.send_all(whole[MIB + MIB // 2 :])
        await recv.finish()
    assert await host.read(root.child("dst2")) == {"f": blob(2 * MIB)}
    assert await zfs.dataset(target) is None


async def check_rename_refused(host: Host) -> None:
    zfs, root = host.zfs, host.root
    path, other, missing = await source(host), await source(host, "other"), root.child("nosuch")
    long = "n" * (255 - len(root) - 1)
    await zfs.snapshot(path, "1")
    for old, new, error, words in (
        (path, other, DatasetExists, "already exists"),
        (missing, root.child("x"), DatasetNotFound, "nosuch"),
        (missing, other, DatasetNotFound, "nosuch"),
        (path, missing.child("x"), DatasetNotFound, "parent does not exist"),
        (path, DatasetPath.parse("nosuchpool/x"), DatasetNotFound, "no such pool"),
        (path, path.child("x"), ZfsError, "descendant"),
        (path, DatasetPath.parse("word"), ZfsError, "missing dataset name"),
        (DatasetPath.parse(root.pool), root.child("x"), ZfsError, "within same pool"),
        (path, root.child(long), ZfsError, "too long"),
    ):
        with pytest.raises(error, match=words) as caught:
            await zfs.rename(old, new)
        assert type(caught.value) is error
        assert str(old) in str(caught.value)
    assert await relatives(host, path) == ["@1"]
    assert len(await zfs.datasets([root])) == 3


# -- sending and receiving -------------------------------------------------------------------


async def check_full_and_incremental(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    files = {"big": blob(MIB), "dir/small": b"x", "dir/gone": b"y", "with space\u00fc": b"z"}
    await host.write(path, files)
    one = await snap(host, path, "1")
    await host.write(path, {"dir/small": b"changed", "dir/gone": None, "new": blob(200_000, 2)})
    two = await snap(host, path, "2")
    await host.write(path, {"after": b"not in a snapshot"})
    await replicate(host, path, one, target)
    assert [v.guid for v in await zfs.versions(target)] == [one.guid]
    await replicate(host, path, two, target, one)
    received = await zfs.versions(target)
    assert [(v.relative, v.guid) for v in received] == [("@1", one.guid), ("@2", two.guid)]
    assert [v.creation for v in received] == [one.creation, two.creation]
    assert await host.read(target) == {
        "big": files["big"],
        "dir/small": b"changed",
        "with space\u00fc": b"z",
        "new": blob(200_000, 2),
    }


async def check_incremental_carries_only_changes(host: Host) -> None:
    path = await source(host)
    await host.write(path, {"big": blob(2 * MIB), "small": b"x"})
    one = await snap(host, path, "1")
    await host.write(path, {"small": b"y"})
    two = await snap(host, path, "2")
    full = await read_send(host, SendArgs(dataset=path, to=two))
    step = await read_send(host, SendArgs(dataset=path, to=two, from_=one))
    assert len(full) > 2 * MIB
    assert len(step) < MIB // 4


async def check_incremental_from_bookmark(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": b"one", "big": blob(MIB)})
    one = await snap(host, path, "1")
    await zfs.bookmark(path, one, "b")
    await replicate(host, path, one, target)
    await zfs.destroy_snapshots(path, ["1"])
    await host.write(path, {"f": b"two"})
    two = await snap(host, path, "2")
    mark = await version(host, path, "#b")
    stream = await read_send(host, SendArgs(dataset=path, to=two, from_=mark))
    assert len(stream) < MIB // 2
    await receive(host, ReceiveArgs(dataset=target, snapshot="2"), stream)
    assert await host.read(target) == {"f": b"two", "big": blob(MIB)}


async def check_cut_and_resume(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {f"f{n}": blob(MIB, n) for n in range(4)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole[: 3 * MIB])
    found = await zfs.dataset(target)
    assert found is not None
    assert found.resume_token == caught.value.token
    assert await zfs.versions(target) == []
    token = await zfs.decode_token(caught.value.token)
    assert (token.to_name, token.to_guid, token.from_guid) == (f"{path}@1", one.guid, None)
    assert token.bytes_received is not None
    assert token.bytes_received > MIB
    # without the token there is no going on, and nothing is lost by trying
    with pytest.raises(ReceiveRefused):
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole)
    rest = await read_send(host, SendArgs(dataset=path, to=one, token=found.resume_token))
    assert len(rest) < len(whole) - MIB
    with pytest.raises(ReceiveInterrupted):
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), rest[: MIB // 2])
    found = await zfs.dataset(target)
    assert found is not None
    rest = await read_send(host, SendArgs(dataset=path, to=one, token=found.resume_token))
    await receive(host, ReceiveArgs(dataset=target, snapshot="1"), rest)
    assert [v.guid for v in await zfs.versions(target)] == [one.guid]
    found = await zfs.dataset(target)
    assert found is not None
    assert found.resume_token is None
    assert await host.read(target) == {f"f{n}": blob(MIB, n) for n in range(4)}


async def check_cut_incremental_and_resume(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"old": b"old", "gone": b"gone"})
    one = await snap(host, path, "1")
    await host.write(path, {"new": blob(2 * MIB), "gone": None})
    two = await snap(host, path, "2")
    await replicate(host, path, one, target)
    step = await read_send(host, SendArgs(dataset=path, to=two, from_=one))
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step[:MIB])
    token = await zfs.decode_token(caught.value.token)
    assert (token.to_guid, token.from_guid) == (two.guid, one.guid)
    assert await relatives(host, target) == ["@1"]
    rest = await read_send(
        host, SendArgs(dataset=path, to=two, from_=one, token=caught.value.token)
    )
    await receive(host, ReceiveArgs(dataset=target, snapshot="2"), rest)
    assert await host.read(target) == {"old": b"old", "new": blob(2 * MIB)}


async def check_cut_without_resumable(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    with pytest.raises(ZfsError) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="1", resumable=False), whole[:MIB])
    assert not isinstance(caught.value, ReceiveInterrupted)
    assert await host.zfs.dataset(target) is None


async def check_leaving_a_receive_keeps_what_arrived(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    async with host.zfs.open_receive(ReceiveArgs(dataset=target, snapshot="1")) as recv:
        await recv.writer.send_all(whole[: MIB + MIB // 2])
    found = await host.zfs.dataset(target)
    assert found is not None
    assert found.resume_token is not None
    rest = await read_send(host, SendArgs(dataset=path, to=one, token=found.resume_token))
    assert len(rest) < len(whole) - MIB // 2
    await receive(host, ReceiveArgs(dataset=target, snapshot="1"), rest)
    assert await host.read(target) == {"f": blob(2 * MIB)}


async def check_abort_receive(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    await host.write(path, {"g": blob(2 * MIB, 2)})
    two = await snap(host, path, "2")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    with pytest.raises(ReceiveInterrupted):
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole[:MIB])
    await zfs.abort_receive(target)
    assert await zfs.dataset(target) is None
    await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole)
    step = await read_send(host, SendArgs(dataset=path, to=two, from_=one))
    with pytest.raises(ReceiveInterrupted):
        await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step[:MIB])
    await zfs.abort_receive(target)
    await zfs.abort_receive(target)
    found = await zfs.dataset(target)
    assert found is not None
    assert found.resume_token is None
    await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step)
    assert await relatives(host, target) == ["@1", "@2"]


async def check_refused_targets(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": b"1"})
    one = await snap(host, path, "1")
    await host.write(path, {"f": b"2"})
    two = await snap(host, path, "2")
    full = await read_send(host, SendArgs(dataset=path, to=one))
    step = await read_send(host, SendArgs(dataset=path, to=two, from_=one))
    with pytest.raises(ReceiveRefused, match="dst"):  # an increment onto nothing
        await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step)
    await receive(host, ReceiveArgs(dataset=target, snapshot="1"), full)
    with pytest.raises(ReceiveRefused, match="dst"):  # a full stream onto what exists
        await receive(host, ReceiveArgs(dataset=target, snapshot="again"), full)
    await host.read(target)
    await host.write(target, {"own": b"change"})
    await host.zfs.snapshot(target, "own")
    with pytest.raises(ReceiveRefused, match="dst"):  # diverged
        await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step)
    unrelated = await source(host, "unrelated")
    await host.zfs.snapshot(unrelated, "x")
    with pytest.raises(ReceiveRefused, match="unrelated"):
        await receive(host, ReceiveArgs(dataset=unrelated, snapshot="2"), step)
    assert await relatives(host, target) == ["@1", "@own"]
    with pytest.raises(ZfsError, match="nosuch"):  # no parent
        await receive(host, ReceiveArgs(dataset=host.root.child("nosuch/dst"), snapshot="1"), full)


async def check_newer_snapshots_without_changes_are_no_divergence(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    one = await snap(host, path, "1")
    await host.write(path, {"f": b"2"})
    two = await snap(host, path, "2")
    await replicate(host, path, one, target)
    await host.zfs.snapshot(target, "own")
    await replicate(host, path, two, target, one)
    assert await relatives(host, target) == ["@1", "@own", "@2"]
    assert await host.read(target) == {"f": b"2"}


async def check_receiving_an_increment_again_changes_nothing(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    one, two = await snap(host, path, "1"), await snap(host, path, "2")
    await replicate(host, path, one, target)
    for _ in range(2):
        await replicate(host, path, two, target, one)
        assert await relatives(host, target) == ["@1", "@2"]


async def check_garbage_streams(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    for stream in (b"", whole[:10], blob(100_000), b"\0" * 65536):
        with pytest.raises(ZfsError) as caught:
            await receive(host, ReceiveArgs(dataset=target, snapshot="1"), stream)
        assert "dst" in str(caught.value)
        await host.zfs.abort_receive(target)
        assert await host.zfs.dataset(target) is None


async def check_force_over_placeholder(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": b"1"})
    one = await snap(host, path, "1")
    full = await read_send(host, SendArgs(dataset=path, to=one))
    await zfs.create_filesystem(target, PLACEHOLDER)
    child = target.child("child")
    await zfs.create_filesystem(child, {})
    with pytest.raises(ReceiveRefused, match="dst"):
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), full)
    await zfs.set_properties(target, {"zrepl:placeholder": "off"})
    await receive(host, ReceiveArgs(dataset=target, snapshot="1", force=True), full)
    assert await relatives(host, target) == ["@1"]
    assert await zfs.dataset(child) is not None
    with pytest.raises(ReceiveRefused, match="dst"):
        await receive(host, ReceiveArgs(dataset=target, snapshot="1", force=True), full)


async def check_cut_over_placeholder_and_resume(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    full = await read_send(host, SendArgs(dataset=path, to=one))
    await zfs.create_filesystem(target, PLACEHOLDER)
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="1", force=True), full[:MIB])
    found = await zfs.dataset(target)
    assert found is not None
    assert found.is_placeholder
    assert found.resume_token == caught.value.token
    rest = await read_send(host, SendArgs(dataset=path, to=one, token=found.resume_token))
    with pytest.raises(ReceiveRefused, match="dst"):  # the placeholder is still there: -F again
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), rest)
    await receive(host, ReceiveArgs(dataset=target, snapshot="1", force=True), rest)
    assert await relatives(host, target) == ["@1"]


async def check_resume_with_force_where_nothing_was(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    full = await read_send(host, SendArgs(dataset=path, to=one))
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), full[:MIB])
    rest = await read_send(host, SendArgs(dataset=path, to=one, token=caught.value.token))
    await receive(host, ReceiveArgs(dataset=target, snapshot="1", force=True), rest)
    assert await host.read(target) == {"f": blob(2 * MIB)}


async def check_properties_of_a_replica(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await zfs.set_properties(
        path, {"a:sent": "yes", "a:not": "no", "exec": "off", "zrepl:placeholder": "on"}
    )
    one = await snap(host, path, "1")
    args = SendArgs(dataset=path, to=one, flags=SendFlags(properties=True))
    await receive(
        host,
        ReceiveArgs(
            dataset=target,
            snapshot="1",
            exclude=("a:not", "mountpoint", "zrepl:placeholder"),
            override={"readonly": "on", "zrepl-trio:source-guid": "77", "exec": "on"},
        ),
        await read_send(host, args),
    )
    got = await zfs.properties(target, ["a:sent", "a:not", "readonly", "exec", "zrepl:placeholder"])
    assert (got["a:sent"].value, got["a:sent"].source) == ("yes", PropertySource.RECEIVED)
    assert got["a:not"].value == "-"
    assert (got["readonly"].value, got["readonly"].source) == ("on", PropertySource.LOCAL)
    assert (got["exec"].value, got["exec"].source) == ("on", PropertySource.LOCAL)
    assert got["zrepl:placeholder"].value == "-"
    found = await zfs.dataset(target)
    assert found is not None
    assert (found.source_guid, found.is_placeholder) == (77, False)


async def check_failed_send_is_no_clean_end(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    gone = await snap(host, path, "1")
    later = await snap(host, path, "2")
    await zfs.destroy_snapshots(path, ["1"])
    for args in (
        SendArgs(dataset=path, to=gone),
        SendArgs(dataset=path, to=later, from_=gone),
        SendArgs(dataset=path.child("nosuch"), to=later),
    ):
        with pytest.raises(DatasetNotFound, match="src"):
            await read_send(host, args)
        with pytest.raises(DatasetNotFound, match="src"):
            await zfs.send_size(args)


async def check_send_left_early(host: Host) -> None:
    path = await source(host)
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    async with host.zfs.open_send(SendArgs(dataset=path, to=one)) as send:
        assert await send.reader.receive_some(1000)
        await send.reader.aclose()
        with pytest.raises(ZfsError, match="src"):
            await send.finish()
    async with host.zfs.open_send(SendArgs(dataset=path, to=one)) as send:
        assert await send.reader.receive_some(1000)
    assert [r.error for r in await host.zfs.destroy_snapshots(path, ["1"])] == [""]


async def check_send_size(host: Host) -> None:
    path = await source(host)
    await host.write(path, {"f": blob(MIB)})
    one = await snap(host, path, "1")
    await host.write(path, {"g": blob(2 * MIB)})
    two = await snap(host, path, "2")
    for args in (SendArgs(dataset=path, to=one), SendArgs(dataset=path, to=two, from_=one)):
        size = await host.zfs.send_size(args)
        real = len(await read_send(host, args))
        assert size is not None
        assert 0.8 * real < size < 1.2 * real


async def check_bad_tokens(host: Host) -> None:
    zfs = host.zfs
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole[:MIB])
    token = caught.value.token
    for bad in ("1-bad-token", "x", token[:-8] + ("0" * 8 if token[-8:] != "0" * 8 else "1" * 8)):
        with pytest.raises(BadResumeToken):
            await zfs.decode_token(bad)
        with pytest.raises(BadResumeToken, match="src"):
            await read_send(host, SendArgs(dataset=path, to=one, token=bad))
    await zfs.destroy_snapshots(path, ["1"])
    assert (await zfs.decode_token(token)).to_guid == one.guid
    with pytest.raises(BadResumeToken, match="src"):
        await read_send(host, SendArgs(dataset=path, to=one, token=token))


async def check_no_space(host: Host) -> None:
    zfs = host.zfs
    path, small = await source(host), host.root.child("small")
    await host.write(path, {"f": blob(8 * MIB)})
    one = await snap(host, path, "1")
    await zfs.create_filesystem(small, {"quota": "3145728"})
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    target = small.child("dst")
    with pytest.raises(NoSpace, match="dst"):
        await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole)
    await zfs.set_properties(small, {"quota": "none"})
    found = await zfs.dataset(target)
    if found is not None and found.resume_token is not None:
        whole = await read_send(host, SendArgs(dataset=path, to=one, token=found.resume_token))
    await receive(host, ReceiveArgs(dataset=target, snapshot="1"), whole)
    assert await host.read(target) == {"f": blob(8 * MIB)}


async def check_two_receives_at_once(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    await host.write(path, {"f": blob(2 * MIB)})
    one = await snap(host, path, "1")
    whole = await read_send(host, SendArgs(dataset=path, to=one))
    args = ReceiveArgs(dataset=target, snapshot="1")
    async with host.zfs.open_receive(args) as first:
        await first.writer.send_all(whole[: MIB + MIB // 2])
        with trio.fail_after(30):
            while await host.zfs.dataset(target) is None:  # noqa: ASYNC110 - only zfs knows
                await trio.sleep(0.05)
        with pytest.raises(ZfsError, match="dst"):
            await receive(host, args, whole)
        await first.writer.send_all(whole[MIB + MIB // 2 :])
        await first.finish()
    assert await host.read(target) == {"f": blob(2 * MIB)}


async def check_features(host: Host) -> None:
    found = await host.zfs.features()
    assert found.version
    assert (found.resumable_send, found.resumable_receive, found.comma_destroy) == (True,) * 3
    assert await host.zfs.features() == found


CHECKS: dict[str, Callable[[Host], Awaitable[None]]] = {
    name.removeprefix("check_"): check
    for name, check in sorted((globals() | vars(conformance_packed)).items())
    if name.startswith("check_")
}
"""All of them, by name."""
