from __future__ import annotations

import pytest

from tests.fakes.endpoint import BytesSink, FakeEndpoint, FakeSource
from tests.rpc.pairs import remote
from tests.rpc.test_messages import FULL_SEND, POOL_A, RECEIVE, RESUMED_SEND, V1, V2
from zrepl_trio.endpoint.protocol import Endpoint, Filesystem, NotSupported, StreamSource
from zrepl_trio.errors import RemoteError, SourceFailed
from zrepl_trio.rpc.client import RemoteEndpoint
from zrepl_trio.rpc.streams import InboundStream
from zrepl_trio.zfs.model import DestroyResult


def check_types(far: RemoteEndpoint, stream: InboundStream) -> tuple[Endpoint, StreamSource]:
    """mypy checks that these are what they say."""
    return far, stream


async def test_every_call_goes_through_the_whole_wire() -> None:
    endpoint = FakeEndpoint()
    endpoint.filesystems = [Filesystem(path=POOL_A, resume_token="1-a", dataset_guid=7)]
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
