from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.endpoint import FakeEndpoint
from tests.replication.notation import path
from tests.replication.pair import SteppingClock
from tests.rpc.pairs import remote
from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import Refused, RemoteError, RemoteProtocolError
from zrepl_trio.rpc import extensions
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import InvalidContent
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.targets import TargetRules

_TIMES = st.none() | st.integers(0, 2**64 - 1)


async def test_places_come_over_the_wire_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.extensions.PLACES_AT_ONCE", 3)
    zfs = MemoryZfs(rng=random.Random(1), clock=SteppingClock(), pools=["backup"])
    receiver = Receiver(
        zfs,
        job="dst",
        root=path("backup"),
        targets=TargetRules.of({"tank<": "all"}),
        placeholder_encryption=PlaceholderEncryption.INHERIT,
    )
    asked = [path(f"tank/{number}") for number in range(7)]
    async with remote(receiver) as far:
        before = far.tells_places  # nothing is known of it before it has answered once
        await far.list_filesystems()
        assert (before, far.tells_places) == (False, True)
        found = await far.places_of(dict.fromkeys([*asked, path("other")], SnapshotTimes()))
        assert await far.places_of({}) == {}
    refusal = found.pop(path("other"))
    assert isinstance(refusal, Refused)
    assert "no entry of `recv.target` matches it" in str(refusal)
    assert found == {each: path(f"backup/all/{each.components[-1]}") for each in asked}


async def test_a_sender_has_no_places() -> None:
    async with remote(FakeEndpoint()) as far:
        with pytest.raises(RemoteError, match="has no place for anything"):
            await far.places_of({path("tank"): SnapshotTimes()})


def test_too_many_are_refused() -> None:
    tank = (path("tank"), SnapshotTimes())
    many = extensions.encode_places_request([tank] * (extensions.PLACES_AT_ONCE + 1))
    with pytest.raises(InvalidContent, match="1001 filesystems are too many"):
        extensions.decode_places_request(many)


@given(st.lists(st.builds(SnapshotTimes, newest=_TIMES, replicated=_TIMES), max_size=5))
def test_what_is_known_of_the_snapshots_comes_with_the_question(told: list[SnapshotTimes]) -> None:
    asked = {path(f"tank/{number}"): times for number, times in enumerate(told)}
    data = extensions.encode_places_request(list(asked.items()))
    assert extensions.decode_places_request(data) == asked


def test_a_question_with_other_times_than_filesystems_is_refused() -> None:
    data = pdu.PlacesReq(Filesystems=["a", "b"], Times=[pdu.TimesOf()]).SerializeToString()
    with pytest.raises(InvalidContent, match="1 times came with 2 filesystems"):
        extensions.decode_places_request(data)


def test_a_question_may_come_without_times() -> None:
    data = pdu.PlacesReq(Filesystems=["a", "b"]).SerializeToString()
    assert extensions.decode_places_request(data) == {
        path("a"): SnapshotTimes(),
        path("b"): SnapshotTimes(),
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (pdu.PlacesRes(), "0 places came, and 1 were asked for"),
        (pdu.PlacesRes(Places=[pdu.PlaceOf(Path="a//b")]), "a//b"),
        (pdu.PlacesRes(Places=[pdu.PlaceOf()]), "empty"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(answer: pdu.PlacesRes, error: str) -> None:
    with pytest.raises(RemoteProtocolError, match=error):
        extensions.decode_places(answer.SerializeToString(), asked=1)
