"""Several snapshots in one send (`zfs send -I`): a part of the conformance suite."""

from __future__ import annotations

import pytest

from tests.zfs.host import MIB, Host, blob, read_send, receive, relatives, replicate, snap, source
from zrepl_trio.errors import DatasetNotFound, ReceiveInterrupted, ReceiveRefused, ZfsError
from zrepl_trio.zfs.model import FilesystemVersion, ReceiveArgs, SendArgs
from zrepl_trio.zfs.names import DatasetPath


async def _series(host: Host, sizes: list[int]) -> tuple[DatasetPath, list[FilesystemVersion]]:
    """A dataset with a snapshot for each of the sizes of a new file, and @0 before them."""
    path = await source(host)
    await host.write(path, {"f": b"first"})
    versions = [await snap(host, path, "0")]
    for number, size in enumerate(sizes, 1):
        await host.write(path, {f"f{number}": blob(size, number)})
        versions.append(await snap(host, path, str(number)))
    return path, versions


async def _replica(host: Host, path: DatasetPath, first: FilesystemVersion) -> DatasetPath:
    target = host.root.child("dst")
    await replicate(host, path, first, target)
    return target


async def check_packed_send_and_receive(host: Host) -> None:
    path, versions = await _series(host, [1000, 2000, 3000])
    target = await _replica(host, path, versions[0])
    args = SendArgs(dataset=path, from_=versions[0], to=versions[-1], packed=True)
    into = ReceiveArgs(
        dataset=target,
        snapshot="3",
        packed=True,
        exclude=("sharenfs",),
        override={"zrepl:x": "1"},
    )
    stream = await read_send(host, args)
    await receive(host, into, stream)
    received = await host.zfs.versions(target)
    assert [(v.relative, v.guid) for v in received] == [(v.relative, v.guid) for v in versions]
    got = await host.zfs.properties(target, ["zrepl:x"])
    assert got["zrepl:x"].value == "1"
    # what is there already is left as it is
    await receive(host, into, stream)
    assert await host.zfs.versions(target) == received
    assert await host.read(target) == await host.read(path)


async def check_packed_sizes(host: Host) -> None:
    path, versions = await _series(host, [MIB, 2 * MIB])
    args = SendArgs(dataset=path, from_=versions[0], to=versions[-1], packed=True)
    sizes = await host.zfs.packed_sizes(args)
    assert list(sizes) == ["1", "2"]
    assert MIB <= sizes["1"] < 2 * MIB <= sizes["2"] < 3 * MIB


async def check_packed_next_to_each_other(host: Host) -> None:
    path, versions = await _series(host, [1000])
    target = await _replica(host, path, versions[0])
    args = SendArgs(dataset=path, from_=versions[0], to=versions[1], packed=True)
    into = ReceiveArgs(dataset=target, snapshot="1", packed=True)
    await receive(host, into, await read_send(host, args))
    assert await relatives(host, target) == ["@0", "@1"]


async def check_packed_cut_and_resumed(host: Host) -> None:
    """What came whole stays; the snapshot in which it was cut is resumed alone."""
    zfs = host.zfs
    path, versions = await _series(host, [1000, 2 * MIB, 3000])
    target = await _replica(host, path, versions[0])
    args = SendArgs(dataset=path, from_=versions[0], to=versions[-1], packed=True)
    into = ReceiveArgs(dataset=target, snapshot="3", packed=True)
    whole = await read_send(host, args)
    with pytest.raises(ReceiveInterrupted) as caught:
        await receive(host, into, whole[:MIB])
    assert await relatives(host, target) == ["@0", "@1"]
    found = await zfs.dataset(target)
    assert found is not None
    assert found.resume_token == caught.value.token
    token = await zfs.decode_token(caught.value.token)
    assert (token.from_guid, token.to_guid) == (versions[1].guid, versions[2].guid)

    resumed = SendArgs(dataset=path, from_=versions[1], to=versions[2], token=caught.value.token)
    rest = await read_send(host, resumed)
    assert len(rest) < 2 * MIB - MIB // 2
    await receive(host, ReceiveArgs(dataset=target, snapshot="2"), rest)
    assert await relatives(host, target) == ["@0", "@1", "@2"]
    args = SendArgs(dataset=path, from_=versions[2], to=versions[3], packed=True)
    await receive(host, into, await read_send(host, args))
    assert await relatives(host, target) == ["@0", "@1", "@2", "@3"]
    assert await host.read(target) == await host.read(path)


async def check_packed_received_where_it_does_not_fit(host: Host) -> None:
    path, versions = await _series(host, [1000, 2000, 3000])
    target = await _replica(host, path, versions[0])
    into = ReceiveArgs(dataset=target, snapshot="3", packed=True)
    args = SendArgs(dataset=path, from_=versions[1], to=versions[3], packed=True)
    with pytest.raises(ReceiveRefused, match="dst"):
        await receive(host, into, await read_send(host, args))
    assert await relatives(host, target) == ["@0"]
    await host.write(target, {"mine": b"local"})
    args = SendArgs(dataset=path, from_=versions[0], to=versions[3], packed=True)
    with pytest.raises(ReceiveRefused, match="modified"):
        await receive(host, into, await read_send(host, args))
    assert await relatives(host, target) == ["@0"]


async def check_packed_with_missing_or_swapped_ends(host: Host) -> None:
    path, versions = await _series(host, [1000, 2000])
    await host.zfs.destroy_snapshots(path, ["1"])
    args = SendArgs(dataset=path, from_=versions[1], to=versions[2], packed=True)
    with pytest.raises(DatasetNotFound, match="src"):
        await read_send(host, args)
    with pytest.raises(DatasetNotFound, match="src"):
        await host.zfs.packed_sizes(args)
    args = SendArgs(dataset=path, from_=versions[2], to=versions[0], packed=True)
    with pytest.raises(ZfsError, match="src"):
        await read_send(host, args)
    with pytest.raises(ZfsError, match="src"):
        await host.zfs.packed_sizes(args)


async def check_packed_over_a_gap(host: Host) -> None:
    """A snapshot that is gone before the send is not missed."""
    path, versions = await _series(host, [1000, 2000, 3000])
    target = await _replica(host, path, versions[0])
    await host.zfs.destroy_snapshots(path, ["2"])
    args = SendArgs(dataset=path, from_=versions[0], to=versions[3], packed=True)
    into = ReceiveArgs(dataset=target, snapshot="3", packed=True)
    await receive(host, into, await read_send(host, args))
    assert await relatives(host, target) == ["@0", "@1", "@3"]
    assert await host.read(target) == await host.read(path)
