"""What every holder of the `Zfs` port must do: run against memory, the emulation and real OpenZFS.

Each `check_*` takes a `Host` whose `root` is an empty filesystem of its own.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable

import pytest

from tests.zfs import (
    conformance_marks,
    conformance_packed,
    conformance_renaming,
    conformance_resuming,
    conformance_snapshots,
    conformance_streams,
)
from tests.zfs.host import (
    PLACEHOLDER,
    Host,
    read_send,
    receive,
    relatives,
    replicate,
    snap,
    source,
)
from zrepl_trio.errors import (
    DatasetExists,
    DatasetNotFound,
    ZfsError,
)
from zrepl_trio.zfs.filter import Extent
from zrepl_trio.zfs.model import (
    DatasetBrief,
    PropertySource,
    ReceiveArgs,
    SendArgs,
    SendFlags,
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
        # it may have another name: nobody knows whether they are gone
        for names in (["s", "t"], ["s"]):
            results = await zfs.destroy_snapshots(path, names)
            assert [r.name for r in results] == names
            assert all(f"cannot open '{path}'" in r.error for r in results)


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


async def check_brief_listing(host: Host) -> None:
    """Own marks are told from inherited ones, and what is missing costs the rest nothing."""
    zfs, root = host.zfs, host.root
    top, below, other = root.child("top"), root.child("top/below"), root.child("other")
    await zfs.create_filesystem(top, PLACEHOLDER)
    await zfs.create_filesystem(below, {})
    await zfs.create_filesystem(other, {})
    await zfs.create_filesystem(other.child("unasked"), {})
    listed = {d.path: d for d in await zfs.datasets([root])}
    missing = (root.child("nosuch"), DatasetPath.parse("nosuchpool/x"))
    found = await zfs.datasets_in(
        Extent(subtrees=(missing[0], top), alone=(other, root.child("never"), missing[1]))
    )
    assert found == [
        DatasetBrief(path=p, guid=listed[p].guid, is_placeholder=p == top, encrypted=False)
        for p in (top, below, other)
    ]
    assert await zfs.datasets_in(Extent(subtrees=missing)) == []
    assert await zfs.datasets_in(Extent()) == []
    everything = await zfs.datasets_in(Extent(everything=True))
    assert listed.keys() <= {d.path for d in everything}


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


async def check_what_destroying_snapshots_would_free(host: Host) -> None:
    zfs = host.zfs
    path = await source(host)
    await host.write(path, {"f": random.Random(1).randbytes(1 << 20)})
    await zfs.snapshot(path, "1")
    await host.write(path, {"f": random.Random(2).randbytes(1 << 20)})
    await zfs.snapshot(path, "2")
    size = await zfs.destroy_size(path, ["1", "nosuch"])
    assert 1 << 20 <= size < 3 << 20
    assert await zfs.destroy_size(path, ["nosuch"]) == 0
    assert await relatives(host, path) == ["@1", "@2"]


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


async def check_features(host: Host) -> None:
    found = await host.zfs.features()
    assert found.version
    assert (found.resumable_send, found.resumable_receive, found.comma_destroy) == (True,) * 3
    assert await host.zfs.features() == found


_PARTS = (
    globals(),
    *map(
        vars,
        (
            conformance_marks,
            conformance_packed,
            conformance_renaming,
            conformance_resuming,
            conformance_snapshots,
            conformance_streams,
        ),
    ),
)

CHECKS: dict[str, Callable[[Host], Awaitable[None]]] = {
    name.removeprefix("check_"): check
    for part in _PARTS
    for name, check in sorted(part.items())
    if name.startswith("check_")
}
"""All of them, by name."""
