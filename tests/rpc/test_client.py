from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.endpoint import BytesSink, FakeEndpoint, FakeSource
from tests.rpc.pairs import remote
from tests.rpc.test_messages import FULL_SEND, POOL_A, RECEIVE, RESUMED_SEND, V1, V2
from zrepl_trio.endpoint.protocol import Endpoint, Filesystem, NotSupported, StreamSource
from zrepl_trio.errors import RemoteError, RemoteProtocolError, SourceFailed, TransportError
from zrepl_trio.rpc import handshake
from zrepl_trio.rpc.client import RemoteEndpoint
from zrepl_trio.rpc.serve_control import METHODS
from zrepl_trio.rpc.streams import InboundStream
from zrepl_trio.zfs.model import DestroyResult


def check_types(far: RemoteEndpoint, stream: InboundStream) -> tuple[Endpoint, StreamSource]:
    """mypy checks that these are what they say."""
    return far, stream


async def test_every_call_goes_through_the_whole_wire() -> None:
    endpoint = FakeEndpoint()
    endpoint.filesystems = [Filesystem(path=POOL_A, resume_token="1-a", dataset_guid=7, written=9)]
    endpoint.versions = {POOL_A: [V1, V2]}
    endpoint.stream = b"stream"
    async with remote(endpoint) as far:
        assert await far.ping("hi") == "hi"
        assert await far.ping_data("ho") == "ho"
        assert await far.list_filesystems() == endpoint.filesystems
        assert await far.list_versions(POOL_A) == [V1, V2]
        assert await far.send_dry(RESUMED_SEND) == 6
        await far.send_completed(RESUMED_SEND)
        assert await far.replication_cursor(POOL_A) is None
        endpoint.cursor = 0
        assert await far.replication_cursor(POOL_A) == 0
        assert await far.destroy_snapshots(POOL_A, [V1]) == [DestroyResult("a", "")]
        assert await far.destroy_snapshots(POOL_A, []) == []
    assert endpoint.asked == [
        "hi",
        "ho",
        "filesystems",
        POOL_A,
        RESUMED_SEND,
        RESUMED_SEND,
        POOL_A,
        POOL_A,
        (POOL_A, [V1]),
        (POOL_A, []),
    ]


M1, M2 = replace(V1, name="m1", guid=11), replace(V1, name="m2", guid=12)
RANGE = replace(FULL_SEND, from_=V1, between=(M1, M2))


async def test_a_range_goes_through_the_whole_wire() -> None:
    endpoint = FakeEndpoint()
    endpoint.sizes = [1, None, 3]
    into = replace(RECEIVE, between=RANGE.between)
    async with remote(endpoint) as far:
        before = far.moves_ranges  # as long as nothing is known of the peer
        await far.ping("hi")
        assert (before, far.moves_ranges) == (False, True)
        assert await far.range_sizes(RANGE) == [1, None, 3]
        await far.send_completed(RANGE)
        async with far.send(RANGE) as reply:
            assert await reply.stream.copy_into(BytesSink()) == 0
        await far.receive(into, FakeSource.of(b"x"))
        endpoint.sizes = [1, 2]
        with pytest.raises(RemoteProtocolError, match="sizes of 2 snapshots came, and 3"):
            await far.range_sizes(RANGE)
    assert endpoint.asked == ["hi", RANGE, RANGE, RANGE, into, RANGE]


async def test_what_a_destroy_would_free_goes_through_the_wire() -> None:
    endpoint = FakeEndpoint()
    async with remote(endpoint) as far:
        assert await far.destroy_size(POOL_A, [V1]) == 4711
    assert endpoint.asked == [(POOL_A, [V1])]


async def test_a_peer_that_cannot_tell_what_it_would_free_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(METHODS, "DestroySize")
    async with remote(FakeEndpoint()) as far:
        assert await far.destroy_size(POOL_A, [V1]) is None


async def test_a_client_of_ours_says_when_to_settle() -> None:
    endpoint = FakeEndpoint()
    async with remote(endpoint) as far:
        await far.settle()  # nothing was asked yet, so nothing can be put off
        assert endpoint.settled == 0
        await far.send_completed(RESUMED_SEND)
        await far.receive(RECEIVE, FakeSource.of(b"x"))
        assert endpoint.settled == 0
        await far.settle()
        assert endpoint.settled == 1
    assert endpoint.settled == 2  # and once more when it has left


async def test_for_a_zrepl_nothing_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.greeting.OUR_BANNER", handshake.render())
    endpoint = FakeEndpoint()
    async with remote(endpoint) as far:
        async with far.send(RESUMED_SEND):
            pass
        await far.send_completed(RESUMED_SEND)
        at_once = replace(RESUMED_SEND, at_once=True)
        assert endpoint.asked == [at_once, at_once]
        await far.receive(RECEIVE, FakeSource.of(b"x"))
        assert endpoint.settled == 1
        await far.settle()
        assert endpoint.settled == 1


async def test_a_zrepl_may_answer_with_more_than_a_zrepl_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.greeting.OUR_BANNER", handshake.render())
    for module in ("grpc", "grpc_server", "serve_control"):
        monkeypatch.setattr(f"zrepl_trio.rpc.{module}.MAX_MESSAGE_BYTES", 1 << 30)
    endpoint = FakeEndpoint()
    many = [replace(V1, name=f"{number:0100}") for number in range(40_000)]
    endpoint.versions = {POOL_A: many}
    async with remote(endpoint) as far:
        assert await far.list_versions(POOL_A) == many
        monkeypatch.setattr("zrepl_trio.rpc.grpc_client.MAX_ANSWER_BYTES", 100_000)
        with pytest.raises(RemoteProtocolError) as caught:
            await far.list_versions(POOL_A)
    said = str(caught.value)
    assert said.startswith(f"{POOL_A} cannot be listed: ")
    assert "is over 100000: prune" in said


async def test_a_peer_without_ranges_is_never_sent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zrepl would take a range for one step, and leave out what is between."""
    monkeypatch.setattr("zrepl_trio.rpc.greeting.OUR_BANNER", handshake.render())
    endpoint = FakeEndpoint()
    async with remote(endpoint) as far:
        await far.ping("hi")
        assert not far.moves_ranges
        with pytest.raises(TransportError, match="moves no ranges"):
            async with far.send(RANGE):
                pass
        with pytest.raises(TransportError, match="moves no ranges"):
            await far.receive(replace(RECEIVE, between=(V1,)), FakeSource.of(b"x"))
    assert endpoint.asked == ["hi"]


@pytest.mark.parametrize("size", [0, 1, 524_288, 1_500_000])
async def test_a_stream_is_sent_whole(size: int) -> None:
    endpoint = FakeEndpoint()
    endpoint.stream = bytes(range(256)) * (size // 256) + bytes(size % 256)
    moved: list[int] = []
    sink = BytesSink()
    async with remote(endpoint) as far, far.send(RESUMED_SEND) as reply:
        assert reply.used_resume_token
        assert reply.expected_size == (size or None)
        assert reply.stream.reader is None
        reply.stream.on_progress = moved.append
        assert await reply.stream.copy_into(sink) == size
        await reply.stream.finish()
    assert sink.data == endpoint.stream
    assert sum(moved) == size
    assert (endpoint.asked, endpoint.open_sends) == ([RESUMED_SEND], 0)


@pytest.mark.parametrize("size", [0, 1, 524_288, 1_500_000])
async def test_a_stream_is_received_whole(size: int) -> None:
    endpoint = FakeEndpoint()
    source = FakeSource.of(bytes(size))
    moved: list[int] = []
    source.on_progress = moved.append
    async with remote(endpoint) as far:
        await far.receive(RECEIVE, source)
    assert endpoint.received == bytes(size)
    assert endpoint.asked == [RECEIVE]
    assert source.finished
    assert sum(moved) == size


async def test_a_failed_source_is_no_clean_end() -> None:
    endpoint = FakeEndpoint()
    endpoint.stream, endpoint.stream_failure = b"part", "zfs send: boom"
    async with remote(endpoint) as far, far.send(FULL_SEND) as reply:
        sink = BytesSink()
        with pytest.raises(SourceFailed, match="zfs send: boom"):
            await reply.stream.copy_into(sink)
        assert sink.data == b"part"
        with pytest.raises(SourceFailed, match="not read to its end"):
            await reply.stream.finish()


async def test_our_own_failed_source_reaches_the_receiver_and_us() -> None:
    endpoint = FakeEndpoint()
    async with remote(endpoint) as far:
        with pytest.raises(SourceFailed, match=r"^zfs send: boom$"):
            await far.receive(RECEIVE, FakeSource.of(b"part", "zfs send: boom"))
    assert endpoint.received == b"part"


async def test_the_texts_of_the_peers_handlers_come_as_they_are() -> None:
    endpoint = FakeEndpoint()
    endpoint.error = NotSupported("receiver does not implement Send()\nüber 100%")
    async with remote(endpoint) as far:
        for call in (
            lambda: far.ping("x"),
            lambda: far.ping_data("x"),
            lambda: far.receive(RECEIVE, FakeSource.of(b"x" * 2_000_000)),
        ):
            with pytest.raises(RemoteError) as caught:
                await call()
            assert str(caught.value) == str(endpoint.error)
        with pytest.raises(RemoteError) as caught:
            async with far.send(FULL_SEND):
                pytest.fail("no reply was due")
        assert str(caught.value) == str(endpoint.error)
