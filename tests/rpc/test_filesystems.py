"""The call that lists filesystems, whole and in parts."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.pairs import remote
from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.errors import RemoteError, RemoteProtocolError
from zrepl_trio.rpc import filesystems, serve_control
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.grpc import MAX_MESSAGE_BYTES
from zrepl_trio.zfs.names import DatasetPath

names = st.lists(st.sampled_from(["a", "b", "a-b", "c"]), min_size=1, max_size=4)
trees = st.sets(names.map(lambda parts: DatasetPath("/".join(["pool", *parts]))), max_size=30)


def in_parts(listed: list[Filesystem], at_most: int) -> list[Filesystem]:
    found: list[Filesystem] = []
    after: DatasetPath | str = ""
    while True:
        part = filesystems.decode_filesystems(
            filesystems.encode_part(listed, after, at_most=at_most)
        )
        found += part.filesystems
        if not part.more:
            return found
        after = found[-1].path


@given(trees, st.integers(0, 100))
def test_any_listing_comes_whole_and_parents_first(paths: set[DatasetPath], at_most: int) -> None:
    listed = [Filesystem(path=path, dataset_guid=len(path)) for path in paths]
    found = in_parts(listed, at_most)
    assert found == sorted(listed, key=lambda each: each.path.components)


def many() -> FakeEndpoint:
    endpoint = FakeEndpoint()
    endpoint.filesystems = [
        Filesystem(path=DatasetPath(f"pool/{number:06}-{'x' * 90}")) for number in range(60_000)
    ]
    assert sum(len(each.path) for each in endpoint.filesystems) > MAX_MESSAGE_BYTES
    return endpoint


async def test_what_no_message_holds_comes_in_parts(autojump_clock: trio.abc.Clock) -> None:
    endpoint = many()
    async with remote(endpoint) as far:
        assert await far.list_filesystems() == endpoint.filesystems


async def test_a_zrepl_is_told_why_it_gets_none(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "encode_request", lambda _after: b"")
    async with remote(many()) as far:
        with pytest.raises(
            RemoteError, match=r"60000 filesystems: .*gRPC takes 4194304.* both sides"
        ):
            await far.list_filesystems()


async def test_parts_without_end_are_noticed(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = pdu.ListFilesystemRes(Filesystems=[pdu.Filesystem(Path="pool/a")], More=True)

    async def hostile(_endpoint: object, _message: bytes) -> bytes:
        return again.SerializeToString()

    monkeypatch.setitem(serve_control.METHODS, "ListFilesystems", hostile)
    async with remote(FakeEndpoint()) as far:
        with pytest.raises(RemoteProtocolError, match="have no end"):
            await far.list_filesystems()


def test_a_part_with_nothing_in_it_has_no_more() -> None:
    with pytest.raises(RemoteProtocolError, match="nothing in it"):
        filesystems.decode_filesystems(pdu.ListFilesystemRes(More=True).SerializeToString())
