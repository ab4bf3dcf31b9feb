"""Renaming: a part of the conformance suite."""

from __future__ import annotations

import pytest
import trio

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
)
from zrepl_trio.errors import (
    DatasetExists,
    DatasetNotFound,
    ReceiveInterrupted,
    ZfsError,
)
from zrepl_trio.zfs.model import (
    ReceiveArgs,
    SendArgs,
)
from zrepl_trio.zfs.names import DatasetPath


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
