"""Control connections with our drivers at both ends: calls side by side, cancelled, too large."""

from __future__ import annotations

import pytest
import structlog
import trio
import trio.testing

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.dialled import Slow
from tests.rpc.pairs import (
    PairConnecter,
    cancel_in_memory,
    remote,
)
from tests.rpc.test_messages import POOL_A, V1
from zrepl_trio.errors import (
    RemoteError,
    ZfsError,
)
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.model import FilesystemVersion


async def test_many_calls_share_one_connection(autojump_clock: trio.testing.MockClock) -> None:
    endpoint = Slow()
    answers: list[str] = []

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    connecter = PairConnecter(serve)
    async with open_remote(connecter) as far:
        assert connecter.connections == []

        async def ping(number: int) -> None:
            answers.append(await far.ping(str(300 - number)))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ping, number)
    assert sorted(map(float, answers)) == list(range(1, 301))
    assert len(connecter.connections) == 1
    assert connecter.connections[0].closed
    assert endpoint.most_at_once == 100


async def test_large_answers_and_small_ones_go_side_by_side() -> None:
    endpoint = FakeEndpoint()
    endpoint.versions = {
        POOL_A: [
            FilesystemVersion(
                kind=V1.kind, name=f"snapshot-{n:09}", guid=n, createtxg=n, creation=n
            )
            for n in range(5_000)
        ]
    }
    async with remote(endpoint) as far, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(far.list_versions, POOL_A)
        assert await far.list_versions(POOL_A) == endpoint.versions[POOL_A]
        assert await far.ping("hi") == "hi"


async def test_an_answer_over_four_mebibytes_is_a_clear_error() -> None:
    endpoint = FakeEndpoint()
    long = FilesystemVersion(kind=V1.kind, name="x" * 240, guid=1, createtxg=1, creation=1)
    endpoint.versions = {POOL_A: [long] * 16_000}
    async with remote(endpoint) as far:
        with pytest.raises(RemoteError, match=r"pool/a with 16000 snapshots .*gRPC takes 4194304"):
            await far.list_versions(POOL_A)
        assert await far.ping("still here") == "still here"


async def test_a_handlers_bug_costs_only_its_call() -> None:
    endpoint = FakeEndpoint()
    with structlog.testing.capture_logs() as log:
        async with remote(endpoint) as far:
            endpoint.error = ValueError("secret")
            with pytest.raises(RemoteError, match="internal error on the serving side"):
                await far.list_filesystems()
            endpoint.error = ExceptionGroup("", [ZfsError("one"), ZfsError("two")])
            with pytest.raises(RemoteError, match=r"^one\ntwo$"):
                await far.list_filesystems()
            endpoint.error = None
            assert await far.ping("hi") == "hi"
    assert [(line["log_level"], line["request"]) for line in log] == [
        ("error", "ListFilesystems"),
        ("warning", "ListFilesystems"),
    ]


async def test_a_cancelled_call_is_cancelled_at_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = Slow()
    async with remote(endpoint) as far:
        with trio.move_on_after(5):
            await far.ping("60")
        await trio.testing.wait_all_tasks_blocked()
        assert endpoint.cut_off == 1
        assert await far.ping("1") == "1"


async def test_an_idle_connection_lives_on(autojump_clock: trio.testing.MockClock) -> None:
    async with remote(Slow()) as far:
        assert await far.ping("0") == "0"
        await trio.sleep(3600)
        assert await far.ping("100") == "100"


async def test_leaving_with_calls_open_cancels_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = Slow()
    with structlog.testing.capture_logs() as log:
        with trio.move_on_after(5):
            async with remote(endpoint) as far:
                await far.ping("60")
    assert endpoint.cut_off == 1
    # the cancel has told the server before the connection went
    assert [line for line in log if line["log_level"] != "warning"] == []


async def test_a_call_cancelled_anywhere_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = FakeEndpoint()
    connecters: list[PairConnecter] = []

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async def calls() -> None:
        connecters.append(connecter := PairConnecter(serve))
        async with open_remote(connecter) as far, trio.open_nursery() as nursery:
            nursery.start_soon(far.ping, "a")
            nursery.start_soon(far.list_filesystems)
            nursery.start_soon(far.ping_data, "b")

    assert await cancel_in_memory(calls) > 20
    for connecter in connecters:
        assert all(end.closed for end in connecter.connections + connecter.server_ends)
