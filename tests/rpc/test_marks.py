"""The call `Marks`: what a side holds, for a plan."""

from __future__ import annotations

import pytest

from tests.fakes.endpoint import FakeEndpoint
from tests.replication.notation import path
from tests.replication.pair import Pair
from tests.rpc.pairs import remote
from zrepl_trio.endpoint.abstractions import step_tag
from zrepl_trio.endpoint.model import Marks
from zrepl_trio.errors import RemoteError, RemoteProtocolError, ZfsError
from zrepl_trio.rpc import extensions
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.elements import InvalidContent
from zrepl_trio.rpc.serve_control import METHODS


@pytest.fixture
async def pair() -> Pair:
    made = Pair()
    for name in ("tank/a", "tank/b", "tank/c"):
        made.fill(name, 10)
        await made.snapshot(name, "1")
    return made


async def test_the_jobs_own_holds_come_in_parts_and_no_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zrepl_trio.rpc.extensions.MARKS_AT_ONCE", 2)
    for name, tag in (("tank/a", step_tag("src")), ("tank/a", "mine"), ("tank/b", "mine")):
        await pair.source.hold(path(name), ["1"], tag)
    asked = [path(name) for name in ("tank/a", "tank/b", "tank/c", "tank/gone")]
    async with remote(pair.sender) as far:
        told = await far.marks_of(asked)
    held = {}
    for name, marks in told.items():
        assert isinstance(marks, Marks)
        assert marks.job == "src"
        held[name] = [(hold.snapshot, hold.tag) for hold in marks.holds or ()]
        assert {hold.snapshot for hold in marks.holds or ()} == {v.name for v in marks.versions}
    assert held == {asked[0]: [("1", step_tag("src"))], asked[1]: [], asked[2]: [], asked[3]: []}


async def test_what_cannot_be_looked_at_says_why_and_the_others_are_told(pair: Pair) -> None:
    for name in ("tank/a", "tank/b"):
        await pair.source.hold(path(name), ["1"], step_tag("src"))

    async def fail(call: str, dataset: str) -> None:
        if call == "holds" and dataset == "tank/a":
            raise ZfsError("not now")

    pair.source.before = fail
    async with remote(pair.sender) as far:
        told = await far.marks_of([path("tank/a"), path("tank/b")])
    assert str(told[path("tank/a")]) == "not now"
    assert isinstance(told[path("tank/b")], Marks)


async def test_a_filesystem_of_somebody_else_is_refused(pair: Pair) -> None:
    async with remote(pair.sender) as far:
        with pytest.raises(RemoteError, match="does not allow access to filesystem other"):
            await far.marks_of([path("tank/a"), path("other")])


async def test_a_peer_without_the_call_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(FakeEndpoint()) as far:
        with pytest.raises(RemoteError, match="cannot tell what it holds"):
            await far.marks_of([path("tank")])
        monkeypatch.delitem(METHODS, "Marks")
        monkeypatch.setattr("zrepl_trio.rpc.serve_control.AT_ONCE_METHODS", METHODS)
        assert await far.marks_of([path("tank")]) == {}


def test_too_many_are_refused() -> None:
    many = [path("tank")] * (extensions.MARKS_AT_ONCE + 1)
    with pytest.raises(InvalidContent, match="201 filesystems are too many"):
        extensions.decode_marks_request(extensions.encode_marks_request(many))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (pdu.MarksRes(), "0 marks came, and 1 were asked for"),
        (
            pdu.MarksRes(
                Marks=[pdu.MarksOf(Holds=[pdu.HoldOf(Version=pdu.FilesystemVersion(Name="a/b"))])]
            ),
            "a/b",
        ),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(answer: pdu.MarksRes, error: str) -> None:
    with pytest.raises(RemoteProtocolError, match=error):
        extensions.decode_marks(answer.SerializeToString(), asked=[path("tank")])
