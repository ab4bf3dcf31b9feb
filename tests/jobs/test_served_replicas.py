"""What a sink knows of the replicas that a client keeps there."""

from __future__ import annotations

import pytest

from tests.replication.notation import path
from tests.replication.pair import Pair
from tests.rpc.pairs import remote
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.endpoint.protocol import Endpoint, MeasuresDestroys, Places, Resolves
from zrepl_trio.jobs.served_replicas import ServedReplicas
from zrepl_trio.replication.attempts import replicate
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
    assert all(each.times.newest is None for each in served.freshness)
    assert {each.peer for each in served.freshness} <= {"app"}
    return {each.dataset: each.times.replicated for each in served.freshness}


async def newest(pair: Pair) -> dict[str, int]:
    return {
        name: (await pair.source.versions(path(name)))[-1].creation
        for name in ("tank/a", "tank/a/b")
    }


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
