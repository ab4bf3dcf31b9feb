"""Parents whose placeholder zfs does not receive over, on real OpenZFS: emulated pools know no keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.pair import MIB
from tests.replication.test_receiver_faults import encrypted, encryption_of, sink_is_encrypted
from tests.rpc.pairs import remote
from zrepl_trio.endpoint.model import SendRequest
from zrepl_trio.endpoint.protocol import SendReply
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.model import SendFlags

pytestmark = [pytest.mark.slow, pytest.mark.zfs]

A, B = "ztsrc/a", "ztsrc/a/b"
PLAIN = SendFlags(encrypted=True)
PACKAGED = SendFlags(encrypted=True, properties=True)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts("real", tmp_path) as opened:
        yield opened


async def children_kept(hosts: Hosts) -> None:
    """The parent has been received, the child below it went on incrementally, nothing lies about."""
    assert await hosts.received(B) == ["1", "2"]
    assert (await hosts.received(A))[-1] == "2"
    listed = (await hosts.command("list", "-H", "-o", "name", "-r", "ztdst/sink")).split()
    assert [name for name in listed if name.endswith("placeholder")] == []


@pytest.mark.parametrize(
    ("told", "flags"),
    [
        pytest.param(True, PLAIN, id="told-plain"),
        pytest.param(True, PACKAGED, id="told-packaged", marks=pytest.mark.thorough),
        pytest.param(False, PLAIN, id="over the wire-plain", marks=pytest.mark.thorough),
        pytest.param(False, PACKAGED, id="over the wire-packaged"),
    ],
)
async def test_a_raw_parent_takes_the_place_of_its_placeholder(
    real: Hosts, tmp_path: Path, *, told: bool, flags: SendFlags
) -> None:
    """The wire does not tell that a stream is raw; its first bytes do."""
    real.send_with(flags)
    await a_raw_parent_after_its_child(real, tmp_path)
    if told:
        report = await real.run()
    else:
        async with remote(real.cable.end) as far:
            report = await real.run(sender=far)
    assert report.outcome is Outcome.DONE, report.error
    await children_kept(real)


async def test_what_is_only_known_by_zfs_is_made_room_for_at_the_next_run(
    real: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = real.cable.send

    @asynccontextmanager
    async def untold(request: SendRequest) -> AsyncIterator[SendReply]:
        async with send(request) as reply:
            yield replace(reply, raw=None)

    monkeypatch.setattr(real.cable, "send", untold)
    real.send_with(SendFlags(encrypted=True))
    await a_raw_parent_after_its_child(real, tmp_path)
    report = await real.run()
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert "a placeholder steps aside for it at the next run" in report.error
    report = await real.run()
    assert report.outcome is Outcome.DONE, report.error
    await children_kept(real)


async def a_raw_parent_after_its_child(hosts: Hosts, tmp_path: Path) -> None:
    """The child has been received below a placeholder, and then the parent got a snapshot."""
    await hosts.create(A, *encrypted(tmp_path))
    await hosts.create(B)
    await hosts.fill(B, MIB)
    await hosts.snapshot(B, "1")
    await hosts.run()  # the parent has no snapshot yet
    assert await hosts.received(B) == ["1"]
    for name in (A, B):
        await hosts.fill(name, MIB, seed=2)
        await hosts.snapshot(name, "2")


async def test_keep_copy_works_below_an_encrypted_root(real: Hosts, tmp_path: Path) -> None:
    await sink_is_encrypted(real, encrypted(tmp_path))
    for name in (A, B):
        await real.create(name)
        await real.fill(name, MIB)
        await real.snapshot(name, "1")
    assert (await real.run()).outcome is Outcome.DONE
    await real.snapshot(real.local(A), "own")
    for name in (A, B):
        await real.fill(name, MIB, seed=2)
        await real.snapshot(name, "2")
    report = await real.run(ReplicationOptions(divergence=DivergencePolicy.KEEP_COPY))
    assert report.outcome is Outcome.DONE, report.error
    await children_kept(real)
    assert await encryption_of(real, A) == ("on", "ztdst/sink")
