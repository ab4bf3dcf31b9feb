"""Receives that are cut, resumed or given up: a part of the conformance suite."""

from __future__ import annotations

import pytest

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
    BadResumeToken,
    DatasetBusy,
    ReceiveInterrupted,
    ReceiveRefused,
    ZfsError,
)
from zrepl_trio.zfs.model import (
    ReceiveArgs,
    SendArgs,
)


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


async def check_an_increment_beside_one_that_cannot_be_resumed(host: Host) -> None:
    path, target = await source(host), host.root.child("dst")
    one = await snap(host, path, "1")
    await host.write(path, {"f": blob(16 * MIB)})
    two = await snap(host, path, "2")
    await replicate(host, path, one, target)
    step = await read_send(host, SendArgs(dataset=path, to=two, from_=one))
    args = ReceiveArgs(dataset=target, snapshot="2", resumable=False)
    async with host.zfs.open_receive(args) as first:
        # far more than pipes hold, so zfs is at it
        await first.writer.send_all(step[: len(step) // 2])
        with pytest.raises(DatasetBusy, match="dst"):
            await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step)
    await receive(host, ReceiveArgs(dataset=target, snapshot="2"), step)
    assert await relatives(host, target) == ["@1", "@2"]
