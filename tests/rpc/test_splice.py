"""The spliced way gives what the copied way gives: bytes, ends, failures, limits, cancels."""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trio

from zrepl_trio import bulk
from zrepl_trio.errors import PeerStuck, SourceFailed, TransportError
from zrepl_trio.pace import Pace
from zrepl_trio.rpc import payload
from zrepl_trio.rpc.dataconn import DataConn, open_dataconn
from zrepl_trio.rpc.machine import Role
from zrepl_trio.rpc.streams import InboundStream, send_stream
from zrepl_trio.transport.fdconn import FdConnection

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")

DATA = bytes(range(256)) * 4096 * 5  # 5 MiB: several full frames


@pytest.fixture(params=["spliced", "copied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "copied":
        monkeypatch.setattr(payload, "spliceable", lambda _source, _target: False)
    return str(request.param)


@dataclass
class _Source:
    """A pipe as a StreamSource; `failure` is what `finish` says."""

    reader: trio.lowlevel.FdStream
    failure: str = ""
    moved: list[int] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)

    @property
    def on_progress(self) -> Callable[[int], None]:
        return self.moved.append

    @on_progress.setter
    def on_progress(self, _callback: Callable[[int], None]) -> None:
        raise AssertionError("not set in these tests")

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        raise AssertionError("a source with a reader is read directly")

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure:
            raise SourceFailed(self.failure)


def _pipe() -> tuple[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
    read, write = os.pipe()
    return trio.lowlevel.FdStream(read), trio.lowlevel.FdStream(write)


@asynccontextmanager
async def _link(
    work_limit_s: float = math.inf,
) -> AsyncIterator[tuple[DataConn, DataConn]]:
    """A pushing client and a server that has read its request, over one socketpair each way."""
    one, two = socket.socketpair()
    ours, theirs = one.detach(), two.detach()
    client_side = FdConnection(ours, ours, client_identity="client")
    server_side = FdConnection(theirs, theirs, client_identity="server")
    # each closed by a task of its own: a shutdown waits for the other's
    async with trio.open_nursery() as nursery:
        server_ready: trio.abc.SendChannel[DataConn]
        server_ready, server_channel = trio.open_memory_channel[DataConn](1)
        done = trio.Event()

        async def serve() -> None:
            async with open_dataconn(server_side, Role.SERVER, work_limit_s=work_limit_s) as server:
                await server.receive_request()
                await server_ready.send(server)
                await done.wait()

        nursery.start_soon(serve)
        try:
            async with open_dataconn(client_side, Role.CLIENT) as client:
                await client.send_request("/v1/recv", b"")
                try:
                    yield client, await server_channel.receive()
                finally:
                    done.set()
        finally:
            nursery.cancel_scope.cancel()


async def _drain(reader: trio.abc.ReceiveStream, into: bytearray) -> None:
    async for part in reader:
        into += part


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("look", [0, 12, 300_000, len(DATA) + 1], ids=str)
@pytest.mark.parametrize("piece", [1, 4095, 65536, 2**20], ids=str)
async def test_every_byte_arrives_and_is_counted(piece: int, look: int) -> None:
    data = DATA if piece > 1 else DATA[:300]
    feed, write = _pipe()
    out_reader, sink = _pipe()
    source = _Source(feed)
    got = bytearray()
    taken: list[int] = []

    async def produce() -> None:
        async with write:
            for at in range(0, len(data), piece):
                await write.send_all(data[at : at + piece])

    async with _link() as (client, server), feed, out_reader, trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        nursery.start_soon(send_stream, client, source)
        nursery.start_soon(_drain, out_reader, got)
        inbound = InboundStream(server)
        inbound.on_progress = taken.append
        if look:
            assert await inbound.head(min(look, 12)) == data[:12]
            assert await inbound.head(look) == data[:look]
        async with sink:
            assert await inbound.copy_into(sink) == len(data)
        await inbound.finish()
    assert got == data
    assert sum(source.moved) == sum(taken) == len(data)


@pytest.mark.usefixtures("way")
async def test_a_source_that_fails_is_never_a_clean_end() -> None:
    feed, write = _pipe()
    out_reader, sink = _pipe()
    async with _link() as (client, server), feed, out_reader, sink:
        await write.send_all(b"partial")
        await write.aclose()
        with pytest.raises(SourceFailed, match="zfs send said no"):
            await send_stream(client, _Source(feed, failure="zfs send said no"))
        with pytest.raises(SourceFailed, match="zfs send said no"):
            await InboundStream(server).copy_into(sink)
        assert await out_reader.receive_some() == b"partial"


@pytest.mark.usefixtures("way")
async def test_a_sink_that_goes_away_is_the_sinks_error() -> None:
    feed, write = _pipe()
    out_reader, sink = _pipe()
    await out_reader.aclose()
    async with _link() as (client, server), feed, sink, write:
        await write.send_all(b"something")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_stream, client, _Source(feed))
            with pytest.raises(trio.BrokenResourceError):
                await InboundStream(server).copy_into(sink)
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("way")
async def test_a_link_cut_inside_a_frame_is_a_transport_error() -> None:
    out_reader, sink = _pipe()
    async with _link() as (client, server), out_reader, sink:
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                with suppress(TransportError):
                    async with client.frame(1000) as body:
                        await body.send_all(b"only this")
                        await client.connection.aclose()
                        raise TransportError("cut")

            nursery.start_soon(cut)
            with pytest.raises(TransportError):
                await InboundStream(server).copy_into(sink)
        assert await out_reader.receive_some() == b"only this"


@pytest.mark.usefixtures("way")
@pytest.mark.slow
async def test_a_slow_sink_is_no_silent_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.splice.PEER_LIMIT_S", 0.4)
    monkeypatch.setattr("zrepl_trio.rpc.dataconn.PEER_LIMIT_S", 0.4)
    feed, write = _pipe()
    out_reader, sink = _pipe()
    got = bytearray()

    async def produce() -> None:
        async with write:
            await write.send_all(DATA)

    async with _link() as (client, server), feed, out_reader, trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        sending = trio.CancelScope()

        async def send() -> None:
            with sending:
                client_limit = pytest.MonkeyPatch()
                client_limit.setattr("zrepl_trio.rpc.heartbeat.PEER_LIMIT_S", 60.0)
                try:
                    await send_stream(client, _Source(feed))
                finally:
                    client_limit.undo()

        nursery.start_soon(send)
        copied = trio.Event()

        async def receive() -> None:
            async with sink:
                await InboundStream(server).copy_into(sink)
            copied.set()

        nursery.start_soon(receive)
        # more than the limit with nothing taken from the sink
        await trio.sleep(1)
        assert not copied.is_set()
        await _drain(out_reader, got)
        await copied.wait()
    assert got == DATA


@pytest.mark.usefixtures("way")
async def test_a_stream_that_stops_while_its_peer_lives_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.heartbeat.INTERVAL_S", 0.05)
    feed, write = _pipe()
    out_reader, sink = _pipe()
    got = bytearray()
    async with _link(work_limit_s=0.5) as (client, server), feed, write, out_reader:
        await write.send_all(b"half of it")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_stream, client, _Source(feed))
            async with sink:
                with pytest.raises(PeerStuck, match="nothing but its heartbeats has come"):
                    await InboundStream(server).copy_into(sink)
            nursery.cancel_scope.cancel()
        await _drain(out_reader, got)
    assert got == b"half of it"


async def test_a_cancel_between_frames_still_says_goodbye_and_inside_one_does_not() -> None:
    feed, write = _pipe()
    async with write, feed:
        async with _link() as (client, _server):
            await write.send_all(b"whole")
            with trio.move_on_after(0.05):
                await send_stream(client, _Source(feed))  # waits for more from the pipe
            assert not client._torn
        async with _link() as (client, _server):
            with trio.move_on_after(0.05):
                async with client.burst() as burst:
                    client.announce(burst, 10)
                    await trio.sleep_forever()
            assert client._torn


def test_connections_of_sockets_and_pipes_are_spliced() -> None:
    one, two = socket.socketpair()
    read, write = os.pipe()
    with one, two:
        assert bulk.spliceable(read, one.fileno())
        assert bulk.spliceable(two.fileno(), write)
    os.close(read)
    os.close(write)
