"""Sending and receiving: a part of the conformance suite."""

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
    version,
)
from zrepl_trio.errors import (
    DatasetNotFound,
    NoSpace,
    ReceiveRefused,
    ZfsError,
)
from zrepl_trio.zfs.model import (
    PropertySource,
    ReceiveArgs,
    SendArgs,
    SendFlags,
)


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
        dataset = await host.zfs.dataset(target)
        assert dataset is not None
        rest = await read_send(host, SendArgs(dataset=path, to=one, token=dataset.resume_token))
        with pytest.raises(ReceiveRefused, match="partially-complete state"):
            await receive(host, args, rest)
        await first.writer.send_all(whole[MIB + MIB // 2 :])
        await first.finish()
    assert await host.read(target) == {"f": blob(2 * MIB)}
