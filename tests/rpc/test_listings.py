"""The call that lists the versions of many filesystems."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.rpc.pairs import remote
from zrepl_trio.errors import Refused, RemoteError, RemoteProtocolError
from zrepl_trio.rpc import handshake, listings
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import InvalidContent
from zrepl_trio.rpc.grpc import MAX_MESSAGE_BYTES
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind, in_order
from zrepl_trio.zfs.names import DatasetPath


def version(
    createtxg: int,
    kind: VersionKind = VersionKind.SNAPSHOT,
    name: str = "",
    held: bool = False,
) -> FilesystemVersion:
    return FilesystemVersion(
        kind=kind,
        name=name or f"s{createtxg}",
        guid=(createtxg * 0x9E3779B97F4A7C15) % 2**64,
        createtxg=createtxg,
        creation=1_700_000_000 + createtxg,
        userrefs=1 if held and kind is VersionKind.SNAPSHOT else None,
    )


versions = st.lists(
    st.builds(
        version,
        st.integers(1, 40),
        st.sampled_from(VersionKind),
        st.text("abc-_.: 019", min_size=1, max_size=20).filter(lambda s: s not in {".", ".."}),
        st.booleans(),
    ),
    max_size=30,
).map(in_order)


@given(st.lists(versions, min_size=1, max_size=6), st.integers(1, 2000))
def test_any_listing_comes_whole_however_small_the_answers(
    all_of_them: list[list[FilesystemVersion]], at_most: int
) -> None:
    came: list[list[FilesystemVersion]] = []
    so_far: list[FilesystemVersion] = []
    rounds = 0
    while len(came) < len(all_of_them):
        answer = listings.Answer(after=so_far[-1].createtxg if so_far else 0, at_most=at_most)
        asked = all_of_them[len(came) :]
        for each in asked:
            if not answer.add(each):
                break
        encoded = answer.encoded()
        for listed in listings.decode_listed(encoded, asked=len(asked)):
            so_far += listed.versions
            if not listed.more:
                came.append(so_far)
                so_far = []
        rounds += 1
        assert rounds < 400
    assert came == all_of_them


async def test_a_listing_beyond_one_message_comes_in_parts() -> None:
    path, small, gone = (DatasetPath(name) for name in ("tank/many", "tank/few", "tank/gone"))
    many = [version(number, name=f"zrepl_{number:08}_" + "x" * 60) for number in range(1, 60_001)]
    endpoint = FakeEndpoint()
    endpoint.versions = {path: many, small: many[:3]}
    assert sum(len(each.name) for each in many) > MAX_MESSAGE_BYTES
    async with remote(endpoint) as far:
        assert not (await far.list_filesystems())
        assert far.lists_in_bulk
        assert await far.list_versions_of([small, path, small]) == {path: many, small: many[:3]}
        endpoint.error = Refused("not for you")
        came = await far.list_versions_of([gone])
        assert isinstance(came[gone], RemoteError)
        assert "not for you" in str(came[gone])


async def test_a_peer_without_the_call_is_asked_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.greeting.OUR_BANNER", handshake.render())
    async with remote(FakeEndpoint()) as far:
        await far.list_filesystems()
        assert not far.lists_in_bulk


def message(**fields: object) -> bytes:
    return pdu.ListVersionsRes(Listed=[pdu.VersionsOf(**fields)]).SerializeToString()  # type: ignore[arg-type]


GOOD = {"Names": "a/b", "Guids": [1, 2], "CreateTXGs": [1, 2], "Creations": [1, 2]}


@pytest.mark.parametrize(
    ("data", "asked", "error"),
    [
        (b"", 1, "0 filesystems came"),
        (message(**GOOD) * 2, 1, "2 filesystems came"),
        (message(**GOOD | {"More": True}) * 2, 2, "before the last one"),
        (message(**GOOD | {"Guids": [1]}), 1, "not of one length"),
        (message(**GOOD | {"Names": "a"}), 1, "not of one length"),
        (message(Names="a"), 1, "not of one length"),
        (message(**GOOD | {"Bookmarks": [2]}), 1, "bookmark"),
        (message(**GOOD | {"Held": [2]}), 1, "held"),
        (message(**GOOD | {"Bookmarks": [0], "Held": [0]}), 1, "held"),
        (message(**GOOD | {"Names": "a/.."}), 1, "must not be"),
        (message(**GOOD | {"Names": "a/"}), 1, "empty"),
        (message(More=True), 1, "nothing in it"),
        (b"\xff\xff", 1, "are no ListVersionsRes"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(data: bytes, asked: int, error: str) -> None:
    with pytest.raises(RemoteProtocolError, match=error):
        listings.decode_listed(data, asked=asked)


def test_a_request_names_legal_filesystems_and_not_too_many() -> None:
    paths = [DatasetPath(f"tank/{n}") for n in range(3)]
    assert listings.decode_request(listings.encode_request(paths, after=7)) == (paths, 7)
    for wrong in (
        pdu.ListVersionsReq(Filesystems=["a/../b"]),
        pdu.ListVersionsReq(Filesystems=["a"] * (listings.ASKED_AT_ONCE + 1)),
    ):
        with pytest.raises(InvalidContent):
            listings.decode_request(wrong.SerializeToString())
