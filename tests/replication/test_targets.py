"""Runs to a receiver whose `recv.target` moves replicas, asked directly and over the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.replication.notation import path
from tests.replication.pair import ROOT, Pair, the
from tests.rpc.pairs import PairConnecter, remote, tight_pair
from zrepl_trio.cli.planview import plan_lines
from zrepl_trio.endpoint.model import Protection
from zrepl_trio.endpoint.protocol import Endpoint, NotSupported
from zrepl_trio.errors import Refused
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.plan import FilesystemPlan, Refusal, RunPlan
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.preview import preview
from zrepl_trio.replication.report import Report
from zrepl_trio.rpc import handshake
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.serve_control import METHODS
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.targets import TargetRules

NAMES = ("tank/data", "tank/data/a", "tank/data/a/b", "tank/vm", "tank/vm/web")
TARGETS = TargetRules.of({"tank/data<": "", "tank/vm/web": "hosts/web"})
PLACES = {
    "tank/data/a": "backup/sink/a",
    "tank/data/a/b": "backup/sink/a/b",
    "tank/vm/web": "backup/sink/hosts/web",
}


@pytest.fixture
async def pair() -> Pair:
    pair = Pair(targets=TARGETS)
    for name in NAMES:
        pair.fill(name, 10)
        await pair.snapshot(name, "1")
    return pair


async def push(pair: Pair) -> Report:
    """As `pair.run`, with the receiver at the other end of a wire."""

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, pair.receiver)

    async with open_remote(PairConnecter(serve, tight_pair)) as receiver:
        return await _replicate(pair, receiver)


async def pull(pair: Pair) -> Report:
    return await _replicate(pair, pair.receiver)


async def _replicate(pair: Pair, receiver: Endpoint) -> Report:
    return await replicate(
        pair.sender,
        receiver,
        ReplicationOptions(attempts=1),
        report=pair.reports.append,
        clock=pair.clock,
        decode_token=pair.target.decode_token,
    )


@pytest.mark.parametrize("run", [pull, push])
async def test_all_that_have_a_place_get_there_whatever_becomes_of_their_parents(
    pair: Pair, run: Callable[[Pair], Awaitable[Report]]
) -> None:
    for snapshot in ("1", "2"):
        if snapshot == "2":
            for name in NAMES:
                await pair.snapshot(name, snapshot)
        report = await run(pair)
        for name, place in PLACES.items():
            assert the(report, name).error is None
            assert pair.same(name, snapshot)
            assert snapshot in [v.name for v in await pair.target.versions(path(place))]
        for name, why in (
            ("tank/data", "the place of tank/data would be the root itself"),
            ("tank/vm", "no entry of `recv.target` matches it"),
        ):
            assert why in str(the(report, name).error)
    datasets = {str(each.path): each.is_placeholder for each in await pair.target.datasets([ROOT])}
    assert datasets == {
        "backup/sink": False,
        "backup/sink/hosts": True,
    } | dict.fromkeys(PLACES.values(), False)


async def planned_by(pair: Pair, receiver: Endpoint) -> RunPlan:
    return await plan_all(
        pair.sender,
        receiver,
        options=ReplicationOptions(),
        decode_token=pair.target.decode_token,
    )


@pytest.mark.parametrize("far", [False, True])
async def test_planning_knows_places_and_parents_there(pair: Pair, far: bool) -> None:
    if far:
        async with remote(pair.receiver) as receiver:
            planned = await planned_by(pair, receiver)
    else:
        planned = await planned_by(pair, pair.receiver)
    refused = [p.filesystem.path for p in planned.plans if isinstance(p, Refusal)]
    assert refused == ["tank/data", "tank/vm"]
    parents = {
        plan.place.path: plan.parents
        for plan in planned.plans
        if isinstance(plan, FilesystemPlan) and plan.place is not None
    }
    assert parents == {
        "backup/sink/a": (),
        "backup/sink/a/b": ("tank/data/a",),
        "backup/sink/hosts/web": (),
    }
    previews = preview(planned, lambda _path, _index: None, Protection())
    assert {str(each.path): each.place for each in previews} == dict.fromkeys(NAMES) | PLACES
    shown = [str(line) for line in plan_lines("p", "pull", "peer", previews)]
    assert "    goes to backup/sink/hosts/web" in shown
    assert not any("makes the placeholder" in line for line in shown[:-1])


async def test_a_peer_that_does_not_tell_is_planned_for_nonetheless(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "Places", unheard_of)
    async with remote(pair.receiver) as receiver:
        planned = await planned_by(pair, receiver)
    plans = [plan for plan in planned.plans if isinstance(plan, FilesystemPlan)]
    assert [plan.place for plan in plans] == [None] * len(NAMES)
    monkeypatch.setattr("zrepl_trio.rpc.greeting.OUR_BANNER", handshake.render())
    monkeypatch.setitem(METHODS, "Places", never_called)
    async with remote(pair.receiver) as receiver:
        assert (await planned_by(pair, receiver)).plans == planned.plans


async def unheard_of(_endpoint: Endpoint, _message: bytes) -> bytes:
    raise NotSupported("never heard of it")


async def never_called(_endpoint: Endpoint, _message: bytes) -> bytes:
    raise AssertionError


async def test_a_senders_placeholder_needs_no_place(pair: Pair) -> None:
    await pair.source.set_properties(path("tank/data"), {"zrepl:placeholder": "on"})
    assert the(await pull(pair), "tank/data").error is None


async def test_a_collision_names_both(pair: Pair) -> None:
    pair.fill("tank/data/hosts", 10)
    pair.fill("tank/data/hosts/web", 10)
    for name in ("tank/data/hosts", "tank/data/hosts/web"):
        await pair.snapshot(name, "1")
    report = await pull(pair)
    assert "hosts/web is the place of the sender's tank/vm/web" in str(
        the(report, "tank/data/hosts/web").error
    )


async def test_what_no_name_leads_to_is_not_shown(pair: Pair) -> None:
    for name in ("hosts", "hosts/web", "hosts/web/x"):
        pair.target.add_filesystem(f"{ROOT}/{name}")
    shown = {str(each.path): each.is_placeholder for each in await pair.receiver.list_filesystems()}
    # the first three are passages to names that have places
    assert shown == {"tank": True, "tank/data": True, "tank/vm": True, "tank/vm/web": False}
    with pytest.raises(Refused, match="cannot place 'tank/other'"):
        await pair.receiver.list_versions(path("tank/other"))
