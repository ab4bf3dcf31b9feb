"""A client that means ill: what is not its own it can neither see, change, nor find out about.

Each call is made twice: where the foreign dataset is there, and where it is not. The answers must be
the same to the letter, and nothing may have changed in either.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replication.notation import path, version
from tests.replication.pair import SteppingClock
from tests.support.pools import contents
from zrepl_trio.emulate.sending import resume_token
from zrepl_trio.endpoint.model import (
    Marks,
    ReceiveRequest,
    ResolveRequest,
    SendRequest,
    SnapshotTimes,
    Way,
)
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.protocol import (
    Endpoint,
    ListsInBulk,
    MeasuresDestroys,
    Places,
    Resolves,
    TellsMarks,
)
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.endpoint.source import ZfsSource
from zrepl_trio.errors import Refused, ZreplError
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import FilesystemVersion, SendArgs
from zrepl_trio.zfs.names import DatasetPath, check_identity

SINK = path("backup/sink")
MINE = path("backup/sink/one")
OWN = path("tank/a")
THEIRS = "backup/sink/two/tank/secret"

NO_NAMES = [
    "",
    ".",
    "..",
    "/",
    "-rf",
    "-F/x",
    "../two/tank/secret",
    "../../sink/two/tank/secret",
    "tank/../../two/tank/secret",
    "tank/./a",
    "../one",
    "/backup/sink/two/tank/secret",
    "tank/a/",
    "tank//a",
    "tank/a@1",
    "tank/a#1",
    "tank/a%b",
    "tank/a\n",
    "tank/a\0",
    "../two/tank/secret\0",
    "tank/ä",
    "tank/\udcff",
    "tank/" + "d" * 300,
]
"""What no dataset can be named, most of it on the way out of the client's own root."""

OTHER_NAMES = [
    "two/tank/secret",
    "backup/sink/two/tank/secret",
    "backup",
    "two",
    "one",
    "tank/a ",
    " ",
    "tank/secret",
    "...",
    "tank/..secret",
]
"""Legal names, which mean something below the client's own root only."""

NO_SNAPSHOTS = ["", "1%2", "%", "1,2", "1@2", "two/tank/secret@1", "..", "../1", "1\n", "1\0"]

Call = Callable[[Endpoint, DatasetPath, FilesystemVersion], Awaitable[object]]


async def _send(endpoint: Endpoint, request: SendRequest) -> str:
    async with endpoint.send(request) as reply:
        return f"sent: {reply}"


async def _receive(endpoint: Endpoint, request: ReceiveRequest) -> str:
    """With a stream that would do any harm: a filesystem whose snapshot has that name."""
    zfs = MemoryZfs(rng=random.Random(3), clock=SteppingClock(), pools=["evil"])
    zfs.write("evil", {"file": b"evil" * 100})
    await zfs.snapshot(path("evil"), "1")
    (one,) = await zfs.versions(path("evil"))
    async with zfs.open_send(SendArgs(dataset=path("evil"), to=one)) as send:
        await endpoint.receive(request, ZfsSource(send, "evil@1"))
    return "received"


async def _list_versions_of(endpoint: Endpoint, name: DatasetPath) -> object:
    assert isinstance(endpoint, ListsInBulk)
    listed = await endpoint.list_versions_of([OWN, name])
    return {path: str(what) for path, what in listed.items()}


async def _resolve(endpoint: Endpoint, request: ResolveRequest) -> object:
    assert isinstance(endpoint, Resolves)
    return await endpoint.resolve(request)


async def _destroy_size(endpoint: Endpoint, name: DatasetPath, v: FilesystemVersion) -> object:
    assert isinstance(endpoint, MeasuresDestroys)
    return await endpoint.destroy_size(name, [v, v])


async def _marks(endpoint: Endpoint, name: DatasetPath) -> object:
    assert isinstance(endpoint, TellsMarks)
    told = (await endpoint.marks_of([name]))[name]
    return told if isinstance(told, Marks) else str(told)


async def _place(endpoint: Endpoint, name: DatasetPath) -> object:
    assert isinstance(endpoint, Places)
    place = (await endpoint.places_of({name: SnapshotTimes()}))[name]
    if isinstance(place, Refused):
        raise place
    return place


ON_BOTH: Mapping[str, Call] = {
    "list_versions": lambda e, name, _: e.list_versions(name),
    "list_versions_of": lambda e, name, _: _list_versions_of(e, name),
    "destroy_snapshots": lambda e, name, v: e.destroy_snapshots(name, [v, v]),
    "destroy_size": lambda e, name, v: _destroy_size(e, name, v),
    "send": lambda e, name, v: _send(e, SendRequest(filesystem=name, to=v)),
    "send_dry": lambda e, name, v: e.send_dry(SendRequest(filesystem=name, to=v)),
    "range_sizes": lambda e, name, v: e.range_sizes(
        SendRequest(filesystem=name, from_=v, to=v, between=(v,))
    ),
    "replication_cursor": lambda e, name, _: e.replication_cursor(name),
    "marks": lambda e, name, _: _marks(e, name),
}

ON_RECEIVER: Mapping[str, Call] = {
    **ON_BOTH,
    "receive": lambda e, name, v: _receive(
        e, ReceiveRequest(filesystem=name, to=v, clear_resume_token=True)
    ),
    "receive a range": lambda e, name, v: _receive(
        e, ReceiveRequest(filesystem=name, to=v, between=(v,), clear_resume_token=True)
    ),
    "rollback": lambda e, name, v: _resolve(
        e, ResolveRequest(filesystem=name, way=Way.ROLLBACK, expected=(v,), to=v)
    ),
    "keep_copy": lambda e, name, v: _resolve(
        e, ResolveRequest(filesystem=name, way=Way.KEEP_COPY, expected=(v,), stamp="0")
    ),
    "place": lambda e, name, _: _place(e, name),
    "rename from": lambda e, name, v: _resolve(
        e,
        ResolveRequest(
            filesystem=path("tank/new"), way=Way.RENAME, expected=(v,), old=(name, name)
        ),
    ),
    "rename to": lambda e, name, v: _resolve(
        e, ResolveRequest(filesystem=name, way=Way.RENAME, expected=(v,), old=(OWN,))
    ),
}

ON_SENDER: Mapping[str, Call] = {
    **ON_BOTH,
    "send an increment": lambda e, name, v: _send(
        e, SendRequest(filesystem=name, from_=replace(v, name="0"), to=v)
    ),
    "send_completed": lambda e, name, v: e.send_completed(SendRequest(filesystem=name, to=v)),
}


async def answer(call: Awaitable[object], name: str = "") -> str:
    """What a client gets to see, without its own words."""
    try:
        text = repr(await call)
    except ZreplError as error:
        text = f"{type(error).__name__}: {error}"
    return text.replace(repr(name), "NAME") if name else text


# --- a sink with two clients ---


def outside(zfs: MemoryZfs) -> dict[str, object]:
    """All that is not below the client's own root."""
    return {name: what for name, what in contents(zfs).items() if not name.startswith(f"{MINE}/")}


async def sink(*, with_theirs: bool) -> MemoryZfs:
    """What client `one` has, and beside it another client's and the host's own."""
    zfs = MemoryZfs(rng=random.Random(1), clock=SteppingClock(), pools=["backup"])
    zfs.add_filesystem(f"{MINE}/{OWN}", {"org:mine": "x"})
    await zfs.snapshot(path(f"{MINE}/{OWN}"), "1")
    if with_theirs:
        for name in (THEIRS, "backup/other", "backup/sink2/tank/secret"):
            theirs = zfs.add_filesystem(name, {"org:theirs": "x"})
            zfs.write(name, {"precious": b"data"})
            await zfs.snapshot(theirs, "1")
            (one,) = await zfs.versions(theirs)
            await zfs.bookmark(theirs, one, "mark")
            await zfs.hold(theirs, ["1"], "zrepl_last_received_J_dst")
    return zfs


def client(zfs: MemoryZfs) -> Receiver:
    return Receiver(
        zfs,
        job="dst",
        root=SINK,
        identity=check_identity("one"),
        placeholder_encryption=PlaceholderEncryption.INHERIT,
    )


async def foreign_snapshot(zfs: MemoryZfs, name: str) -> FilesystemVersion:
    """The only snapshot of it, which the client may have got to know of by other ways."""
    (one,) = [each for each in await zfs.versions(path(name)) if each.is_snapshot]
    return one


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("call", ON_RECEIVER)
async def test_no_name_leads_a_client_out_of_its_root(call: str, name: str) -> None:
    here, there = await sink(with_theirs=True), await sink(with_theirs=False)
    known = await foreign_snapshot(here, THEIRS)
    answers = []
    for zfs in (here, there):
        before = contents(zfs)
        endpoint = client(zfs)
        await endpoint.list_filesystems()
        answers.append(await answer(ON_RECEIVER[call](endpoint, DatasetPath(name), known)))
        await endpoint.settle()
        assert contents(zfs) == before
    assert answers[0] == answers[1]
    assert answers[0].startswith(("Refused: ", "NotSupported: "))


@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize("call", ON_RECEIVER)
async def test_a_legal_name_means_the_clients_own(call: str, name: str) -> None:
    here, there = await sink(with_theirs=True), await sink(with_theirs=False)
    known = await foreign_snapshot(here, THEIRS)
    answers = []
    for zfs in (here, there):
        before = outside(zfs)
        endpoint = client(zfs)
        await endpoint.list_filesystems()
        answers.append(await answer(ON_RECEIVER[call](endpoint, path(name), known)))
        await endpoint.settle()
        assert outside(zfs) == before
    assert answers[0] == answers[1]


async def test_a_client_is_shown_its_own_only() -> None:
    here, there = await sink(with_theirs=True), await sink(with_theirs=False)
    listings = [await client(zfs).list_filesystems() for zfs in (here, there)]
    assert listings[0] == listings[1]
    assert [each.path for each in listings[0]] == ["tank", OWN]


@pytest.mark.parametrize("name", NO_SNAPSHOTS)
async def test_no_snapshots_name_destroys_another(name: str) -> None:
    zfs = await sink(with_theirs=True)
    before = contents(zfs)
    (own,) = await zfs.versions(path(f"{MINE}/{OWN}"))
    (result,) = await client(zfs).destroy_snapshots(OWN, [replace(own, name=name)])
    assert result.name == name
    assert contents(zfs) == before
    for request in (
        ReceiveRequest(filesystem=OWN, to=replace(own, name=name), clear_resume_token=True),
        ReceiveRequest(
            filesystem=OWN, to=own, between=(replace(own, name=name),), clear_resume_token=True
        ),
    ):
        with pytest.raises(Refused):
            await _receive(client(zfs), request)
    assert contents(zfs) == before


async def test_a_forged_guid_destroys_and_rolls_back_nothing() -> None:
    zfs = await sink(with_theirs=True)
    await zfs.snapshot(path(f"{MINE}/{OWN}"), "2")
    before = contents(zfs)
    one, two = await zfs.versions(path(f"{MINE}/{OWN}"))
    known = await foreign_snapshot(zfs, THEIRS)
    forged = replace(two, guid=known.guid)
    (result,) = await client(zfs).destroy_snapshots(OWN, [forged])
    assert "left alone" in result.error
    for expected, to in (((one, forged), one), ((one, two), forged)):
        request = ResolveRequest(filesystem=OWN, way=Way.ROLLBACK, expected=expected, to=to)
        with pytest.raises(Refused):
            await client(zfs).resolve(request)
    assert contents(zfs) == before


@settings(max_examples=200, deadline=None)
@given(name=st.text(alphabet="./-@#%, \0\nabtwo1é", max_size=40) | st.text(max_size=300))
async def test_whatever_the_name_zfs_is_asked_of_nothing_outside(name: str) -> None:
    zfs = await sink(with_theirs=True)
    known = await foreign_snapshot(zfs, THEIRS)
    before = outside(zfs)
    asked: set[str] = set()

    async def watch(call: str, dataset: str) -> None:
        # parents are looked for upwards, and the root's own encryption is looked at
        if call not in {"dataset", "properties"}:
            asked.update(dataset.split(","))

    zfs.before = watch
    for call in ON_RECEIVER.values():
        await answer(call(client(zfs), DatasetPath(name), known))
    assert all(not each or path(each).is_at_or_below(MINE) for each in asked), asked
    assert outside(zfs) == before


# --- a source with a filter ---


async def source(*, with_secret: bool) -> MemoryZfs:
    zfs = MemoryZfs(rng=random.Random(2), clock=SteppingClock(), pools=["tank"])
    zfs.add_filesystem(OWN)
    for name in ("0", "1"):
        await zfs.snapshot(OWN, name)
    if with_secret:
        for text in ("tank/secret", "tank/a/secret", "tank/a2"):
            secret = zfs.add_filesystem(text)
            zfs.write(text, {"secret": b"data"})
            for name in ("0", "1"):
                await zfs.snapshot(secret, name)
            (one, _) = await zfs.versions(secret)
            await zfs.bookmark(secret, one, f"zrepl_CURSOR_G_{one.guid:016x}_J_src")
            await zfs.hold(secret, ["1"], "zrepl_STEP_J_src")
    return zfs


def serving(zfs: MemoryZfs) -> Sender:
    return Sender(
        zfs,
        job="src",
        filesystems=FilesystemFilter.of({"tank/a<": True, "tank/a/secret<": False}),
    )


SECRETS = ["tank/secret", "tank/a/secret", "tank/a/secret/x", "tank/a2", "tank", "tank/A", "x"]


@pytest.mark.parametrize("name", [*SECRETS, *NO_NAMES, *OTHER_NAMES])
@pytest.mark.parametrize("call", ON_SENDER)
async def test_nothing_outside_a_filter_can_be_reached_or_guessed(call: str, name: str) -> None:
    here, there = await source(with_secret=True), await source(with_secret=False)
    known = (await here.versions(path("tank/secret")))[-1]
    answers = []
    for zfs in (here, there):
        before = contents(zfs)
        zfs.calls.clear()
        endpoint = serving(zfs)
        answers.append(await answer(ON_SENDER[call](endpoint, DatasetPath(name), known)))
        await endpoint.settle()
        assert contents(zfs) == before
        assert zfs.calls == []
    assert answers[0] == answers[1]
    assert answers[0].startswith("Refused: ")


async def test_a_filter_shows_what_it_admits_and_nothing_else() -> None:
    here, there = await source(with_secret=True), await source(with_secret=False)
    listings = [await serving(zfs).list_filesystems() for zfs in (here, there)]
    assert listings[0] == listings[1]
    assert [each.path for each in listings[0]] == [OWN]


@pytest.mark.parametrize("named", ["tank/secret", "tank/a/secret", "tank/a2"])
@pytest.mark.parametrize("guid", ["known", "guessed", "own"])
async def test_a_resume_token_of_another_dataset_tells_and_sends_nothing(
    named: str, guid: str
) -> None:
    here, there = await source(with_secret=True), await source(with_secret=False)
    own = (await here.versions(OWN))[-1]
    secret = (await here.versions(path(named)))[-1]
    guids = {"known": secret.guid, "guessed": 7, "own": own.guid}
    begin = {"toname": f"{named}@1", "toguid": str(guids[guid])}
    token = resume_token(begin, offset=0, received=0)
    answers = []
    for zfs in (here, there):
        before = contents(zfs)
        # each of them must be a step of its own dataset to come so far at all
        for to in (own, replace(own, guid=guids[guid])):
            request = SendRequest(filesystem=OWN, to=to, resume_token=token)
            answers.append(await answer(_send(serving(zfs), request)))
            answers.append(await answer(serving(zfs).send_dry(request)))
        assert contents(zfs) == before
    assert answers[:4] == answers[4:]
    assert answers[0].startswith(f"BadResumeToken: {OWN}: ")
    assert all(text.startswith(("BadResumeToken: ", "Refused: ")) for text in answers)


@pytest.mark.parametrize("name", ["1", "0", "nothing"])
@pytest.mark.parametrize("kind", ["@", "#"])
async def test_a_version_of_another_dataset_is_none_of_this_one(name: str, kind: str) -> None:
    here, there = await source(with_secret=True), await source(with_secret=False)
    own = (await here.versions(OWN))[-1]
    secret = (await here.versions(path("tank/secret")))[-1]
    asked = replace(version(f"{kind}{name},1"), guid=secret.guid)
    answers = []
    for zfs in (here, there):
        before = contents(zfs)
        for request in (
            SendRequest(filesystem=OWN, to=asked),
            SendRequest(filesystem=OWN, from_=asked, to=own),
        ):
            answers.append(await answer(_send(serving(zfs), request)))
        answers.append(await answer(serving(zfs).send_completed(replace(request, to=asked))))
        answers.append(await answer(serving(zfs).destroy_snapshots(OWN, [asked])))
        assert contents(zfs) == before
    assert answers[:4] == answers[4:]
