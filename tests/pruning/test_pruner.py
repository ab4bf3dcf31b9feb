"""Pruning both sides of a replication: what goes, what stays, and what each side's failures do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import structlog
import trio

from tests.pruning.policies import ALL, LAST_1, NOT_REPLICATED, policy
from tests.replication.notation import path
from tests.replication.pair import MIB, Pair
from zrepl_trio.endpoint.model import (
    GuaranteeKind,
    Protection,
    ResolveRequest,
    Way,
)
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.endpoint.refusals import no_floor
from zrepl_trio.errors import Refused, RemoteError, TransportError, ZfsError
from zrepl_trio.jobs.served_replicas import ServedReplicas
from zrepl_trio.pruning import pruner as pruner_module
from zrepl_trio.pruning.floor import FloorRules
from zrepl_trio.pruning.plan import PruneSide, PruningPolicy
from zrepl_trio.pruning.pruner import Pruner
from zrepl_trio.pruning.report import PruneReport, PruneState
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

A, B = path("tank/a"), path("tank/b")
NOTHING: dict[str, object] = {"type": "regex", "regex": "nothing-has-this-name"}


async def replicated(*names: str, filesystems: Sequence[str] = ("tank/a",), **how: object) -> Pair:
    """Each snapshot was taken and replicated."""
    pair = Pair()
    for name in names:
        for filesystem in filesystems:
            if name == names[0]:
                pair.fill(filesystem, MIB)
            await pair.snapshot(filesystem, name)
        report = await pair.run(options=ReplicationOptions(**how))  # type: ignore[arg-type]
        assert report.outcome is Outcome.DONE, report.error
    return pair


def pruner(pair: Pair, publish: list[PruneReport] | None = None) -> Pruner:
    return Pruner(
        sender=pair.cable,
        receiver=pair.receiver,
        clock=pair.clock,
        publish=(publish if publish is not None else []).append,
    )


async def left(pair: Pair, name: str = "tank/a") -> tuple[str, str]:
    sender = [v.name for v in await pair.source.versions(path(name)) if v.is_snapshot]
    return " ".join(sender), " ".join(await pair.received(name))


SENDER = policy(NOT_REPLICATED, LAST_1)
RECEIVER = policy({"type": "last_n", "count": 2}, side=PruneSide.RECEIVER)


async def test_each_side_by_its_own_rules() -> None:
    pair = await replicated("1", "2", "3", "4")
    reports: list[PruneReport] = []
    run = pruner(pair, reports)
    done = await run.prune(SENDER)
    assert (done.state, done.destroyed) == (PruneState.DONE, 3)
    assert await left(pair) == ("4", "1 2 3 4")
    done = await run.prune(RECEIVER)
    assert done.destroyed == 2
    assert await left(pair) == ("4", "3 4")
    states = [report.state for report in reports]
    assert states[0] is PruneState.PLAN
    assert states[-1] is PruneState.DONE
    assert PruneState.EXEC in states
    await pair.snapshot("tank/a", "5", MIB)
    assert (await pair.run()).outcome is Outcome.DONE
    assert (await left(pair))[1] == "3 4 5"


@pytest.mark.parametrize(
    "kind", [GuaranteeKind.RESUMABILITY, GuaranteeKind.INCREMENTAL, GuaranteeKind.NOTHING]
)
async def test_after_rules_that_keep_nothing_the_next_increment_is_possible(
    kind: GuaranteeKind,
) -> None:
    protection = Protection(initial=GuaranteeKind.RESUMABILITY, incremental=kind)
    if kind is GuaranteeKind.NOTHING:
        pair = await replicated("1", "2")  # has a cursor from when it still made one
    else:
        pair = await replicated("1", "2", "3", protection=protection)
    run = pruner(pair)
    for side in (PruneSide.SENDER, PruneSide.RECEIVER):
        pruned = await run.prune(policy(NOTHING, side=side))
        assert pruned.state is PruneState.DONE, pruned.errors
    sender, receiver = await left(pair)
    assert sender == ""
    assert len(receiver.split()) == 1
    await pair.snapshot("tank/a", "9", MIB)
    report = await pair.run(options=ReplicationOptions(protection=protection))
    assert report.outcome is Outcome.DONE, report.error
    assert (await left(pair))[1].split()[-1] == "9"


async def test_without_a_cursor_nothing_is_destroyed() -> None:
    protection = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING)
    pair = await replicated("1", "2", protection=protection)
    for how in (SENDER, policy(LAST_1, side=PruneSide.RECEIVER)):
        report = await pruner(pair).prune(how)
        assert report.state is PruneState.EXEC_ERR
        (error,) = report.errors
        assert error.startswith("tank/a: the job's replication cursor is not on the sender")
    assert await left(pair) == ("1 2", "1 2")


async def test_what_rules_keep_anyway_needs_no_cursor() -> None:
    protection = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING)
    pair = await replicated("1", "2", protection=protection)
    report = await pruner(pair).prune(policy({"type": "last_n", "count": 2}))
    assert report.state is PruneState.DONE
    assert [call for call in pair.cable.calls if call.startswith("replication_cursor")] == []


async def test_what_was_never_replicated_waits_on_the_sender() -> None:
    pair = await replicated("1")
    for name in ("2", "3", "4"):
        await pair.snapshot("tank/a", name)
    assert (await pruner(pair).prune(SENDER)).destroyed == 0
    budget = policy({**NOT_REPLICATED, "max_count": 2}, {"type": "last_n", "count": 1})
    assert (await pruner(pair).prune(budget)).destroyed == 2
    assert await left(pair) == ("3 4", "1")  # the cursor is the base, and pins no space
    assert (await pair.run()).outcome is Outcome.DONE
    assert await left(pair) == ("3 4", "1 3 4")


async def test_filesystems_that_the_sender_no_longer_offers_are_left_alone() -> None:
    pair = await replicated("1", "2", "3", filesystems=("tank/a", "tank/b"))
    pair.sender._filter = type(pair.sender._filter).of({"tank/a": True})
    report = await pruner(pair).prune(policy(LAST_1, side=PruneSide.RECEIVER))
    assert await left(pair) == ("1 2 3", "3")
    assert (await left(pair, "tank/b"))[1] == "1 2 3"
    why = {each.path: each.skipped for each in report.completed}
    assert why == {
        A: "",
        B: "filesystem has no correspondence on sender",
        path("tank"): "filesystem is placeholder",
    }


async def test_what_is_held_is_told_and_nothing_fails() -> None:
    pair = await replicated("1", "2", "3")
    await pair.source.hold(A, ["1"], "mine")
    await pair.target.hold(pair.local("tank/a"), ["1"], "mine")
    run = pruner(pair)
    for how in (SENDER, policy(LAST_1, side=PruneSide.RECEIVER)):
        report = await run.prune(how)
        assert report.state is PruneState.DONE
        told = {one.name: one.why for each in report.completed for one in each.left_alone}
        assert "held" in told["1"]
    assert await left(pair) == ("1 3", "1 3")


async def test_what_stays_for_good_is_left_alone_and_waits_for_no_word() -> None:
    pair = await replicated("mine", "z1", "z2")
    rule = {"type": "last_n", "count": 1, "regex": "^z"}
    asks = await pruner(pair).prune(policy(rule, foreign="ask", side=PruneSide.RECEIVER))
    assert (asks.foreign, [each.left_alone for each in asks.completed]) == (1, [()] * 2)
    keeps = await pruner(pair).prune(policy(rule, foreign="keep", side=PruneSide.RECEIVER))
    assert keeps.state is PruneState.DONE
    assert keeps.foreign == 0
    (left_alone,) = [one for each in keeps.completed for one in each.left_alone]
    assert left_alone.name == "mine"
    assert "`pruning.foreign: keep`" in left_alone.why
    assert (await left(pair))[1] == "mine z2"


async def test_one_filesystem_that_fails_does_not_stop_the_next() -> None:
    pair = await replicated("1", "2", filesystems=("tank/a", "tank/b"))

    async def fail(call: str, dataset: str) -> None:
        if call == "destroy_snapshots" and dataset == A:
            raise ZfsError("cannot destroy 'tank/a@1': I/O error", dataset=A)

    pair.source.before = fail
    report = await pruner(pair).prune(SENDER)
    assert report.state is PruneState.EXEC_ERR
    (error,) = report.errors
    assert error.startswith("tank/a: not all could be destroyed: ")
    assert "I/O error" in error
    assert (await left(pair))[0] == "1 2"
    assert (await left(pair, "tank/b"))[0] == "2"


async def test_one_snapshot_that_fails_does_not_stop_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruner_module, "DESTROYED_AT_ONCE", 2)
    pair = await replicated("1", "2", "3", "4", "5")
    destroy = pair.source.destroy_snapshots

    async def all_but_2(dataset: DatasetPath, names: Sequence[str]) -> list[DestroyResult]:
        done = await destroy(dataset, [name for name in names if name != "2"])
        return [*done, *(DestroyResult(name, "I/O error") for name in names if name == "2")]

    monkeypatch.setattr(pair.source, "destroy_snapshots", all_but_2)
    report = await pruner(pair).prune(SENDER)
    assert report.state is PruneState.EXEC_ERR
    assert report.errors == ("tank/a: not all could be destroyed: @2: I/O error",)
    assert (await left(pair))[0] == "2 5"


async def test_a_link_that_breaks_ends_it_and_is_told_for_each() -> None:
    pair = await replicated("1", "2", filesystems=("tank/a", "tank/b"))
    pair.cable.lose = {"destroy_snapshots"}
    report = await pruner(pair).prune(SENDER)
    assert report.state is PruneState.EXEC_ERR
    assert [error.partition(":")[0] for error in report.errors] == ["tank/a", "tank/b"]
    assert sum(call.startswith("destroy_snapshots") for call in pair.cable.calls) == 1
    # the answer was lost, not the deed; the next run goes on from what there is
    assert await left(pair) == ("2", "1 2")
    assert (await pruner(pair).prune(SENDER)).state is PruneState.DONE
    assert (await left(pair, "tank/b"))[0] == "2"


async def test_a_sender_that_cannot_be_asked_prunes_neither_side() -> None:
    pair = await replicated("1", "2")
    pair.cable.down = True
    run = pruner(pair)
    for how in (SENDER, policy(LAST_1, side=PruneSide.RECEIVER)):
        report = await run.prune(how)
        assert (report.state, report.error) == (PruneState.PLAN_ERR, "the link is down")
        assert report.finished is not None


async def test_a_receiver_that_is_down_keeps_no_sender_from_pruning() -> None:
    pair = await replicated("1", "2", "3")
    receiver: Endpoint = type(pair.cable)(pair.receiver)
    assert hasattr(receiver, "down")
    receiver.down = True
    run = Pruner(sender=pair.sender, receiver=receiver, clock=pair.clock)
    assert (await run.prune(SENDER)).destroyed == 2
    report = await run.prune(policy(LAST_1, side=PruneSide.RECEIVER))
    assert report.state is PruneState.PLAN_ERR


async def test_a_base_that_only_an_old_snapshot_is_survives_both_sides() -> None:
    """The replica was rolled back by hand, behind what the cursor says."""
    pair = await replicated("1", "2", "3")
    local = pair.local("tank/a")
    await pair.target.release(local, ["3"], "zrepl_last_received_J_dst")
    await pair.target.rollback(local, "2")
    run = pruner(pair)
    await run.prune(policy(NOTHING))
    await run.prune(policy(NOTHING, side=PruneSide.RECEIVER))
    assert await left(pair) == ("2", "2")


@pytest.mark.parametrize("broken", ["one filesystem", "the link"])
async def test_a_sender_that_cannot_be_listed_costs_no_replica_its_base(broken: str) -> None:
    """Rolled back by hand behind the cursor: only the sender's listing tells what both have."""
    pair = await replicated("1", "2", "3", filesystems=("tank/a", "tank/b"))
    local = pair.local("tank/a")
    await pair.target.release(local, ["3"], "zrepl_last_received_J_dst")
    await pair.target.rollback(local, "2")
    await pair.target.snapshot(local, "by-hand")
    real = pair.cable.list_versions

    async def fail(filesystem: DatasetPath) -> list[FilesystemVersion]:
        if broken == "the link":
            raise TransportError("the link broke")
        if filesystem == A:
            raise RemoteError("I/O error")
        return await real(filesystem)

    pair.cable.list_versions = fail  # type: ignore[method-assign]
    report = await pruner(pair).prune(policy(LAST_1, side=PruneSide.RECEIVER))
    assert (await left(pair))[1] == "1 2 by-hand"
    if broken == "the link":
        assert (report.state, report.error) == (PruneState.PLAN_ERR, "the link broke")
    else:
        assert report.errors == ("tank/a: its snapshots on the sender cannot be listed: I/O error",)
        assert (await left(pair, "tank/b"))[1] == "3"


async def test_a_listing_in_another_order_makes_nothing_replicated() -> None:
    pair = await replicated("1", "2", "3")
    for name in ("4", "5"):
        await pair.snapshot("tank/a", name)
    real = pair.cable.list_versions

    async def reverse(filesystem: DatasetPath) -> list[FilesystemVersion]:
        return (await real(filesystem))[::-1]

    pair.cable.list_versions = reverse  # type: ignore[method-assign]
    assert (await pruner(pair).prune(policy(NOT_REPLICATED))).destroyed == 2
    assert (await left(pair))[0] == "3 4 5"


@pytest.mark.parametrize("side", [PruneSide.SENDER, PruneSide.RECEIVER])
async def test_a_clock_that_was_set_forward_costs_neither_side_its_history(side: PruneSide) -> None:
    """Nor does a sender that somebody has broken into."""
    pair = await replicated("1", "2", "3", filesystems=("tank/a", "tank/b"))
    right, pair.clock._now = pair.clock._now, datetime(2099, 1, 1, tzinfo=UTC)
    await pair.snapshot("tank/a", "4")
    pair.clock._now = right
    assert (await pair.run()).outcome is Outcome.DONE
    grid = policy({"type": "grid", "grid": "1x1h(keep=1)", "regex": "."}, side=side)
    report = await pruner(pair).prune(grid)
    (error,) = report.errors
    assert error.startswith("tank/a: @4 has the time 2099-01-01, which is yet to come")
    assert await left(pair) == ("1 2 3 4", "1 2 3 4")
    assert report.destroyed  # of the other one


async def test_a_replica_that_is_gone_has_nothing_replicated() -> None:
    """The sender's are the only ones left, whatever the cursor says."""
    pair = await replicated("1", "2", "3")
    local = pair.local("tank/a")
    await pair.target.rename(local, path("backup/sink/tank/elsewhere"))
    assert (await pruner(pair).prune(policy(NOT_REPLICATED))).destroyed == 0
    assert [v.name for v in await pair.source.versions(A) if v.is_snapshot] == ["1", "2", "3"]


async def test_what_is_renamed_meanwhile_does_not_count_as_destroyed() -> None:
    pair = await replicated("1", "2", "3")

    async def rename(call: str, _dataset: str) -> None:
        if call == "destroy_snapshots":
            pair.source.before = None
            await pair.source.rename(A, B)

    pair.source.before = rename
    report = await pruner(pair).prune(SENDER)
    assert (report.state, report.destroyed) == (PruneState.EXEC_ERR, 0)
    (error,) = report.errors
    assert "tank/a: not all could be destroyed: @1: " in error
    assert "dataset does not exist" in error
    assert [v.name for v in await pair.source.versions(B) if v.is_snapshot] == ["1", "2", "3"]


async def test_the_floor_of_a_side_is_refused_and_told_as_such() -> None:
    pair = await replicated("1", "2", "3", "4")
    (rule,) = policy({"type": "last_n", "count": 3}).rules
    pair.receiver._floor = FloorRules(job="dst", rules=(rule,), now=pair.clock.now)
    refused: list[int] = []
    served = ServedReplicas(pair.receiver, identity="app", on_refused=refused.append)
    run = Pruner(sender=pair.cable, receiver=served, clock=pair.clock)
    with structlog.testing.capture_logs() as logged:
        report = await run.prune(policy(LAST_1, side=PruneSide.RECEIVER))
    assert report.state is PruneState.DONE
    assert (report.destroyed, refused) == (1, [2])
    (warned,) = [each for each in logged if each["event"].startswith("the floor of the other")]
    assert (warned["log_level"], warned["snapshots"]) == ("warning", 2)
    assert warned["first"].startswith("tank/a@2: refused: kept by the floor of job 'dst'")
    (each,) = [one for one in report.completed if one.left_alone]
    assert {one.why for one in each.left_alone} == {
        "refused: kept by the floor of job 'dst': last_n 3"
    }
    assert (await left(pair))[1] == "2 3 4"


async def test_a_rollback_gets_no_lower_than_the_floor() -> None:
    pair = await replicated("1", "2")
    (rule,) = policy({"type": "last_n", "count": 1}).rules
    pair.receiver._floor = FloorRules(job="dst", rules=(rule,), now=pair.clock.now)
    refused: list[int] = []
    served = ServedReplicas(pair.receiver, identity="app", on_refused=refused.append)
    there = tuple(await served.list_versions(A))
    back = ResolveRequest(filesystem=A, way=Way.ROLLBACK, expected=there, to=there[0])
    with pytest.raises(Refused, match="@2 would be destroyed, refused: kept by the floor of job"):
        await served.resolve(back)
    assert refused == [1]
    assert (await left(pair))[1] == "1 2"
    pair.receiver._floor = no_floor
    await served.resolve(back)
    assert (await left(pair))[1] == "1"


async def test_a_filesystem_that_is_destroyed_meanwhile_is_told_alone() -> None:
    pair = await replicated("1", "2", filesystems=("tank/a", "tank/b"))
    run = pruner(pair)
    real = pair.sender.destroy_snapshots

    async def vanished(filesystem: object, snapshots: object) -> object:
        if filesystem == A:
            await pair.source.destroy_snapshots(A, ["1", "2"])
            for mark in [v for v in await pair.source.versions(A) if not v.is_snapshot]:
                await pair.source.destroy_bookmark(A, mark.name)
            await pair.source.destroy_filesystem(A)
        return await real(filesystem, snapshots)  # type: ignore[arg-type]

    pair.sender.destroy_snapshots = vanished  # type: ignore[assignment, method-assign]
    report = await run.prune(SENDER)
    assert [error.partition(":")[0] for error in report.errors] == ["tank/a"]
    assert (await left(pair, "tank/b"))[0] == "2"


@pytest.mark.parametrize("at", range(1, 40))
async def test_cancelled_anywhere_nothing_but_what_was_decided_is_gone(at: int) -> None:
    pair = await replicated("1", "2", "3", filesystems=("tank/a", "tank/b"))
    steps = 0
    reports: list[PruneReport] = []
    with trio.CancelScope() as scope:

        async def count(_call: str, _dataset: str) -> None:
            nonlocal steps
            steps += 1
            if steps == at:
                scope.cancel()
            await trio.lowlevel.checkpoint()

        pair.source.before = pair.target.before = count
        run = pruner(pair, reports)
        await run.prune(SENDER)
        await run.prune(RECEIVER)
    pair.source.before = pair.target.before = None
    last = reports[-1]
    assert last.finished is not None  # nobody is told that it still goes on
    assert not scope.cancelled_caught or last.errors == ("stopped before its end",)
    for name in ("tank/a", "tank/b"):
        sender, receiver = await left(pair, name)
        assert sender in {"1 2 3", "3"}
        assert receiver in {"1 2 3", "2 3"}
    await pair.settled()
    run = pruner(pair)
    for how in (SENDER, RECEIVER):
        assert (await run.prune(how)).state is PruneState.DONE
    assert await left(pair) == await left(pair, "tank/b") == ("3", "2 3")


def test_who_keeps_all_is_not_asked_to_prune() -> None:
    assert policy(ALL).keeps_all
    assert isinstance(SENDER, PruningPolicy)
