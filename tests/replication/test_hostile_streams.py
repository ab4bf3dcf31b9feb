"""Streams that no honest sender makes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.marks import LAST
from tests.replication.notation import path
from tests.replication.pair import MIB, Pair
from zrepl_trio.endpoint.model import ReceiveRequest, SendRequest
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import PolicyBreach, TransportError
from zrepl_trio.pace import Pace
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.names import check_identity


class Bytes:
    """A stream that is all made up; with `cut`, its link breaks at the end of it."""

    reader = None

    def __init__(self, data: bytes, *, cut: bool = False) -> None:
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.pace = Pace()
        self._data = data
        self._cut = cut

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        await sink.send_all(self._data)
        if self._cut:
            raise TransportError("the link broke")
        return len(self._data)

    async def finish(self) -> None:
        raise AssertionError("there is no reader to drain")


async def stream_of_a_clone(hosts: Hosts) -> tuple[bytes, ReceiveRequest]:
    """Of a clone of ztsrc/a@1, which tells the other side no more of that than its guid."""
    await hosts.command("clone", "ztsrc/a@1", "ztsrc/c")
    await hosts.fill("ztsrc/c", 12 * MIB, seed=7)
    two = await hosts.snapshot("ztsrc/c", "2")
    argv = [hosts.zfs_command, "send", "-i", "ztsrc/a@1", "ztsrc/c@2"]
    sent = await trio.run_process(argv, capture_stdout=True, stdin=subprocess.DEVNULL)
    request = ReceiveRequest(filesystem=path("tank/c"), to=two, clear_resume_token=False)
    return sent.stdout, request


def client(hosts: Hosts) -> Receiver:
    return Receiver(
        hosts.zfs,
        job="dst",
        root=path("ztdst/sink"),
        identity=check_identity("evil"),
        placeholder_encryption=PlaceholderEncryption.INHERIT,
    )


@pytest.mark.zfs
@pytest.mark.parametrize("cut", [False, True])
async def test_a_stream_cannot_tie_down_the_snapshots_of_others(
    tmp_path: Path, *, cut: bool
) -> None:
    async with open_hosts("real", tmp_path) as hosts:
        await hosts.create("ztsrc/a")
        await hosts.fill("ztsrc/a", MIB)
        await hosts.snapshot("ztsrc/a", "1")
        assert (await hosts.run()).outcome is Outcome.DONE
        theirs, mine = hosts.local("ztsrc/a"), path("ztdst/sink/evil/tank/c")
        stream, request = await stream_of_a_clone(hosts)
        receiver = client(hosts)
        if cut:
            with pytest.raises(TransportError):
                await receiver.receive(request, Bytes(stream[: 6 * MIB], cut=True))
        else:
            with pytest.raises(PolicyBreach, match=f"{mine}: the stream made it a clone") as breach:
                await receiver.receive(request, Bytes(stream))
            assert theirs not in str(breach.value)
            assert await hosts.marks(mine) == set()
            await hosts.command("destroy", "-r", mine)
        assert await hosts.zfs.dataset(mine) is None
        await hosts.zfs.release(theirs, ["1"], LAST)
        (result,) = await hosts.zfs.destroy_snapshots(theirs, ["1"])
        assert not result.error


async def test_a_client_that_never_lists_makes_nothing_below_by_a_range_either() -> None:
    pair = Pair()
    pair.fill("tank/a")
    one = await pair.snapshot("tank/a", "1")
    assert (await pair.run()).outcome is Outcome.DONE
    two, three = [await pair.snapshot("tank/a", name, 1000) for name in "23"]
    stranger = pair.local("tank/a").child("x")

    async def plant(call: str, _dataset: str) -> None:
        if call == "open_receive":
            pair.target.before = None
            pair.target.add_filesystem(stranger)

    pair.target.before = plant
    receiver = Receiver(
        pair.target,
        job="dst",
        root=path("backup/sink"),
        placeholder_encryption=PlaceholderEncryption.INHERIT,
    )
    request = SendRequest(filesystem=path("tank/a"), from_=one, between=(two,), to=three)
    wanted = ReceiveRequest(
        filesystem=path("tank/a"), between=(two,), to=three, clear_resume_token=False
    )
    async with pair.sender.send(request) as reply:
        with pytest.raises(PolicyBreach, match=f"{stranger} appeared"):
            await receiver.receive(wanted, reply.stream)
