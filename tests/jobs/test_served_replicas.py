"""What a sink knows of the replicas that a client keeps there."""

from __future__ import annotations

import pytest

from tests.replication.notation import path
from tests.replication.pair import Pair
from tests.rpc.pairs import remote
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, SnapshotTimes
from zrepl_trio.endpoint.protocol import Endpoint, MeasuresDestroys, Places, Resolves
from zrepl_trio.jobs.served_replicas import ServedReplicas
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome

RESUMABLE = Protection()
UNPROTECTED = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING)


@pytest.fixture
async def pair() -> Pair:
    made = Pair()
    for name in ("tank/a", "tank/a/b"):
        made.fill(name, 10)
        await made.snapshot(name, "1")
    return made


async def push(pair: Pair, served: ServedReplicas, protection: Protection = RESUMABLE) -> None:
    async with remote(served) as far:
        report = await replicate(
            pair.sender,
            far,
            ReplicationOptions(attempts=1, protection=protection),
            report=lambda _report: None,
            clock=pair.clock,
            decode_token=pair.target.decode_token,
        )
    assert report.outcome is Outcome.DONE, report.error


def known(served: ServedReplicas) -> dict[str, int | None]:
    assert {each.peer for each in served.freshness} <= {"app"}
    return {each.dataset: each.times.replicated for each in served.freshness}


async def newest(pair: Pair) -> dict[str, int]:
    listed = await pair.source.versions_below([path("tank")])
    return {str(name): versions[-1].creation for name, versions in listed.items() if versions}


def test_does_all_that_a_receiver_does() -> None:
    served = ServedReplicas(Pair().receiver, identity="app")
    endpoint: Endpoint = served
    assert isinstance(endpoint, Places)
    assert isinstance(endpoint, Resolves)
    assert isinstance(endpoint, MeasuresDestroys)


@pytest.mark.parametrize("protection", [RESUMABLE, UNPROTECTED])
async def test_what_is_received_tells_and_costs_nothing(pair: Pair, protection: Protection) -> None:
    served = ServedReplicas(pair.receiver, identity="app")
    await push(pair, served, protection)
    assert known(served) == await newest(pair)
    await pair.snapshot("tank/a", "2", 10)
    await push(pair, served, protection)
    assert known(served) == await newest(pair)
    pair.target.calls.clear()
    await push(pair, served, protection)
    assert known(served) == await newest(pair)
    assert len(pair.target.calls) == 2, pair.target.calls


async def test_a_push_tells_how_far_behind_its_replicas_are(pair: Pair) -> None:
    """With what it asks as it plans, so before anything of it comes."""
    served = ServedReplicas(pair.receiver, identity="app")
    await push(pair, served)
    assert {each.dataset: each.times.lag_s for each in served.freshness} == {
        "tank/a": 0,
        "tank/a/b": 0,
    }
    before = await newest(pair)
    for name in ("2", "3"):
        await pair.snapshot("tank/a", name, 10)
    pair.fill("tank/new", 10)
    await pair.snapshot("tank/new", "1")
    async with remote(served) as far:
        await plan_all(
            pair.sender,
            far,
            options=ReplicationOptions(),
            decode_token=pair.target.decode_token,
        )
    after = await newest(pair)
    assert {each.dataset: each.times for each in served.freshness} == {
        "tank/a": SnapshotTimes(newest=after["tank/a"], replicated=before["tank/a"]),
        "tank/a/b": SnapshotTimes(newest=before["tank/a/b"], replicated=before["tank/a/b"]),
        "tank/new": SnapshotTimes(newest=after["tank/new"]),
    }
    await push(pair, served)
    assert {each.times.lag_s for each in served.freshness} == {0}


async def test_a_client_cannot_make_up_names_without_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zrepl_trio.jobs.served_replicas.MOST_NOTED", 3)
    served = ServedReplicas(Pair().receiver, identity="app")
    for number in range(10):
        await served.places_of({path(f"tank/{number}"): SnapshotTimes(newest=number)})
    assert len(served.freshness) == 3
    await served.places_of({path("tank/0"): SnapshotTimes(newest=99)})
    assert served.freshness[0].times.newest == 99


async def test_the_hold_tells_what_came_before_our_time(pair: Pair) -> None:
    await push(pair, ServedReplicas(pair.receiver, identity="app"))
    for name in ("tank/a", "tank/a/b"):
        await pair.target.snapshot(pair.receiver.place(path(name)), "own")
    served = ServedReplicas(pair.receiver, identity="app")
    async with remote(served) as far:
        for each in await far.list_filesystems():
            if not each.is_placeholder:
                await far.list_versions(each.path)
    assert known(served) == await newest(pair)
    await pair.target.release(
        pair.receiver.place(path("tank/a")), ["1"], "zrepl_last_received_J_dst"
    )
    fresh = ServedReplicas(pair.receiver, identity="app")
    await fresh.list_filesystems()
    await fresh.list_versions(path("tank/a"))
    assert known(fresh) == {}


async def test_a_replica_that_is_gone_is_forgotten(pair: Pair) -> None:
    served = ServedReplicas(pair.receiver, identity="app")
    await push(pair, served)
    gone = pair.receiver.place(path("tank/a/b"))
    await pair.target.release(gone, ["1"], "zrepl_last_received_J_dst")
    await pair.target.destroy_snapshots(gone, ["1"])
    await pair.target.destroy_filesystem(gone)
    await served.list_filesystems()
    assert known(served).keys() == {"tank/a"}
