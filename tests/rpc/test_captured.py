"""What a real zrepl 0.7.0 said, in each of its roles, replayed to ours (made by tests/interop/capture.py).

A first send, an increment, and pruning: control connections and a data connection for each send. And what it says
whose `zfs` fails.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fakes.endpoint import BytesSink, FakeEndpoint, FakeSource
from tests.rpc.dialled import Dial
from tests.rpc.pairs import connection_pair, receive_exactly, receive_rest
from tests.rpc.vectors import RESET
from zrepl_trio.endpoint.model import ReceiveRequest, SendRequest
from zrepl_trio.errors import RemoteError
from zrepl_trio.rpc import handshake, label, messages
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.greeting import OUR_BANNER
from zrepl_trio.rpc.grpc_client import GrpcClient
from zrepl_trio.rpc.grpc_server import Call, GrpcServer
from zrepl_trio.rpc.label import LABEL_BYTES, Label
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

ZREPLS_BANNER = handshake.render()
CONTROL, DATA = label.render(Label.CONTROL), label.render(Label.DATA)


class Captured:
    """One of the four ways; a zrepl was the client of `they-…`, and the server of `we-…`."""

    def __init__(self, way: str) -> None:
        path = Path(__file__).parents[1] / f"golden/wire/{way}.json"
        found = json.loads(path.read_text())
        self.dataset = DatasetPath(found["dataset"])
        self.guids: dict[str, int] = found["guids"]
        self.connections = [
            (base64.b64decode(each["client"]), base64.b64decode(each["server"]))
            for each in found["connections"]
        ]

    def of(self, label: bytes) -> list[tuple[bytes, bytes]]:
        """The connections of a kind, without their greetings."""
        ours, zrepls = len(OUR_BANNER), len(ZREPLS_BANNER)
        we_dial = self.connections[0][0].startswith(OUR_BANNER)
        banner, other = (ours, zrepls) if we_dial else (zrepls, ours)
        found = [
            (said[banner + LABEL_BYTES :], answered[other:])
            for said, answered in self.connections
            if said[banner : banner + LABEL_BYTES] == label
        ]
        assert found  # or all that is asked of each of them would be answered by none
        return found


def test_its_banner_is_ours_of_old() -> None:
    for way in ("they-pull", "they-push"):
        for said, _ in Captured(way).connections:
            assert said.startswith(ZREPLS_BANNER)
    for way in ("we-pull", "we-push"):
        for _, answered in Captured(way).connections:
            assert answered.startswith(ZREPLS_BANNER)


async def replayed(said: bytes, kind: Label, endpoint: FakeEndpoint) -> bytes:
    """A client's side of a connection, up to its leaving, to our server; what that answered."""
    ours, theirs = connection_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, endpoint)
        await ours.send_all(ZREPLS_BANNER + label.render(kind) + said.removesuffix(RESET))
        await receive_exactly(ours, len(OUR_BANNER))
        answered = await receive_rest(ours)
        await ours.aclose()
    return answered


@pytest.mark.parametrize("way", ["they-pull", "they-push"])
def test_calls_of_a_zrepl_are_understood(way: str) -> None:
    captured = Captured(way)
    paths: Counter[str] = Counter()
    destroyed: list[tuple[DatasetPath, str]] = []
    for said, _ in captured.of(CONTROL):
        machine = GrpcServer(0)
        calls = [call for call in machine.receive_data(said, 0) if isinstance(call, Call)]
        assert all(call.timeout_s is None for call in calls)
        for call in calls:
            method = call.path.removeprefix("/Replication/")
            paths[method] += 1
            if method == "SendDry":
                request = messages.decode_send(call.message, dry=True)
                assert request.filesystem == captured.dataset
                assert request.to.guid == captured.guids[request.to.name]
            elif method == "SendCompleted":
                done = messages.decode_send_completed(call.message)
                assert done.to.guid == captured.guids[done.to.name]
            elif method == "DestroySnapshots":
                filesystem, snapshots = messages.decode_destroy(call.message)
                # it asks for each filesystem, also where nothing is to go
                destroyed += [(filesystem, each.name) for each in snapshots]
            elif method in {"ListFilesystemVersions", "ReplicationCursor"}:
                assert call.message
    # two runs, of planning, a step, and pruning
    of_a_sender = {"SendDry": 2, "SendCompleted": 2, "ReplicationCursor": 4}
    expected = {"ListFilesystems": 8 if way == "they-pull" else 4}
    for method, count in (expected | (of_a_sender if way == "they-pull" else {})).items():
        assert paths[method] == count, paths
    assert destroyed == [(captured.dataset, "1")]
    assert set(paths) <= {*expected, *of_a_sender, "ListFilesystemVersions", "DestroySnapshots"}


async def test_a_zrepl_that_pulls_gets_a_stream() -> None:
    captured = Captured("they-pull")
    asked: list[SendRequest] = []
    for said, _ in captured.of(DATA):
        endpoint = FakeEndpoint()
        endpoint.stream = b"a stream"
        answered = await replayed(said, Label.DATA, endpoint)
        assert b"HANDLER OK\n" in answered
        assert endpoint.stream in answered
        (request,) = endpoint.asked
        assert isinstance(request, SendRequest)
        asked.append(request)
    first, second = asked
    assert (first.from_, first.to.guid) == (None, captured.guids["1"])
    assert second.from_ is not None
    assert (second.from_.guid, second.to.guid) == (captured.guids["1"], captured.guids["2"])


async def test_a_zrepl_that_pushes_is_taken_in() -> None:
    captured = Captured("they-push")
    targets = []
    for said, _ in captured.of(DATA):
        endpoint = FakeEndpoint()
        answered = await replayed(said, Label.DATA, endpoint)
        assert b"HANDLER OK\n" in answered
        (request,) = endpoint.asked
        assert isinstance(request, ReceiveRequest)
        assert request.clear_resume_token
        targets.append(request.to.guid)
        assert len(endpoint.received) > 100
        assert endpoint.received in said
    assert targets == [captured.guids["1"], captured.guids["2"]]


@pytest.mark.parametrize("way", ["we-pull", "we-push"])
def test_answers_of_a_zrepl_are_understood(way: str) -> None:
    """Our own calls of then are made again, and get the answers of then."""
    captured = Captured(way)
    told: dict[str, list[Any]] = {}
    for said, answered in captured.of(CONTROL):
        calls = [call for call in GrpcServer(0).receive_data(said, 0) if isinstance(call, Call)]
        machine = GrpcClient(0)
        asked = {machine.start_call(call.path, call.message): call for call in calls}
        while machine.data_to_send():
            pass
        for done in machine.receive_data(answered, 0):
            assert isinstance(done.result, bytes), done
            call = asked.pop(done.call)
            method = call.path.removeprefix("/Replication/")
            told.setdefault(method, []).append(_decoded(method, call, done.result))
        assert not asked
    listed = [paths for paths in told["ListFilesystems"] if paths]
    assert all(captured.dataset in paths for paths in listed)
    versions = [each for each in told["ListFilesystemVersions"] if each]
    newest: list[FilesystemVersion] = versions[-1]
    assert {each.guid for each in newest} <= {*captured.guids.values()}
    assert told["DestroySnapshots"][-1] == [("1", "")]
    if way == "we-pull":
        assert told["ReplicationCursor"][-1] == captured.guids["2"]
        assert told["SendCompleted"] == [None, None]


def _decoded(method: str, call: Call, answer: bytes) -> object:
    match method:
        case "ListFilesystems":
            return [each.Path for each in pdu.ListFilesystemRes.FromString(answer).Filesystems]
        case "ListFilesystemVersions":
            return messages.decode_versions(answer)
        case "DestroySnapshots":
            _, asked = messages.decode_destroy(call.message)
            return [
                (each.name, each.error) for each in messages.decode_destroy_results(answer, asked)
            ]
        case "ReplicationCursor":
            return messages.decode_cursor(answer)
        case "SendCompleted":
            messages.decode_empty(answer)
            return None
        case _:
            return answer


def answering(answered: bytes) -> object:
    """A server that says what a zrepl said."""

    async def serve(connection: Connection) -> None:
        await connection.send_all(ZREPLS_BANNER + answered)
        await receive_rest(connection)
        await connection.aclose()

    return serve


async def test_a_zrepl_that_sends_is_read() -> None:
    captured = Captured("we-pull")
    for said, answered in captured.of(DATA):
        endpoint = FakeEndpoint()
        await replayed(said, Label.DATA, endpoint)
        (request,) = endpoint.asked
        assert isinstance(request, SendRequest)
        async with (
            open_remote(Dial(answering(answered))) as far,
            far.send(request) as reply,
        ):
            assert not reply.used_resume_token
            sink = BytesSink()
            count = await reply.stream.copy_into(sink)
        assert count == len(sink.data) > 100
        assert bytes(sink.data) in answered


async def test_a_zrepl_that_receives_is_heard() -> None:
    captured = Captured("we-push")
    for said, answered in captured.of(DATA):
        endpoint = FakeEndpoint()
        await replayed(said, Label.DATA, endpoint)
        (request,) = endpoint.asked
        assert isinstance(request, ReceiveRequest)
        async with open_remote(Dial(answering(answered))) as far:
            await far.receive(request, FakeSource.of(endpoint.received))


async def test_a_zrepl_that_cannot_send_is_heard() -> None:
    for said, answered in Captured("we-pull-refused").of(DATA):
        endpoint = FakeEndpoint()
        await replayed(said, Label.DATA, endpoint)
        (request,) = endpoint.asked
        assert isinstance(request, SendRequest)
        async with open_remote(Dial(answering(answered))) as far:
            with pytest.raises(RemoteError, match="cannot hold: it was made to fail"):
                await far.send(request).__aenter__()


async def test_a_zrepl_that_cannot_receive_is_heard() -> None:
    for said, answered in Captured("we-push-refused").of(DATA):
        endpoint = FakeEndpoint()
        await replayed(said, Label.DATA, endpoint)
        (request,) = endpoint.asked
        assert isinstance(request, ReceiveRequest)
        async with open_remote(Dial(answering(answered))) as far:
            with pytest.raises(RemoteError, match="cannot recv: it was made to fail"):
                await far.receive(request, FakeSource.of(endpoint.received))
