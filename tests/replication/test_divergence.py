"""Replicas that no longer fit: what happened is named, and the job's policy, or a person, settles it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from structlog.testing import capture_logs

from tests.replication.notation import path, versions
from tests.replication.pair import MIB, ROOT, Pair, the
from tests.rpc.pairs import PairConnecter
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.endpoint.aside import copy_around
from zrepl_trio.endpoint.housekeeping import list_abstractions, release
from zrepl_trio.endpoint.inventory import Selection, stale
from zrepl_trio.endpoint.model import ResolveRequest, Way
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import Refused, ZfsError
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.conflicts import ConflictKind, conflict_kind
from zrepl_trio.replication.diff import IncrementalPath, Mismatch, incremental_path
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions, parse_overrides
from zrepl_trio.replication.report import Outcome, Report
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.elements import InvalidContent
from zrepl_trio.rpc.extensions import decode_resolve, encode_resolve
from zrepl_trio.rpc.serve_control import METHODS
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.names import DatasetPath

CURSOR = "zrepl_CURSOR_G_{:016x}_J_src"
REPLICA = DatasetPath.parse(f"{ROOT}/tank/a")


def conflict(receiver: str, sender: str) -> Mismatch:
    found = incremental_path(versions(receiver), versions(sender))
    assert not isinstance(found, IncrementalPath)
    return found


@pytest.mark.parametrize(
    ("receiver", "sender", "kind"),
    [
        ("@a,1 @x,9", f"#{CURSOR.format(1)},1 @a,1 @b,2", ConflictKind.RECEIVER_SNAPSHOTS),
        ("@a,1 @b,2", "@a,1", ConflictKind.ROLLED_BACK),
        ("@a,1 @b,2", "@a,1 @b,7", ConflictKind.ROLLED_BACK),
        ("@a,1", "@c,3", ConflictKind.NO_COMMON),
        ("@a,1", "", ConflictKind.NOTHING_TO_SEND),
    ],
)
def test_what_happened_is_told_by_the_cursor(
    receiver: str, sender: str, kind: ConflictKind
) -> None:
    found = conflict(receiver, sender)
    assert conflict_kind(found, sender_guid=5, replica_of=5, cursors=True) is kind


def test_without_cursors_the_receiver_is_thought_to_have_its_own() -> None:
    found = conflict("@a,1 @b,2", "@a,1")
    kind = conflict_kind(found, sender_guid=None, replica_of=None, cursors=False)
    assert kind is ConflictKind.RECEIVER_SNAPSHOTS


def test_another_dataset_of_the_same_name_is_told_by_its_guid() -> None:
    found = conflict("@a,1", "@c,3")
    assert conflict_kind(found, sender_guid=6, replica_of=5, cursors=True) is ConflictKind.RECREATED
    assert (
        conflict_kind(found, sender_guid=6, replica_of=None, cursors=True) is ConflictKind.NO_COMMON
    )


def test_a_wish_is_a_filesystem_and_a_way() -> None:
    assert parse_overrides(["tank/a=rollback", "tank/b=keep_copy"]) == {
        path("tank/a"): DivergencePolicy.ROLLBACK,
        path("tank/b"): DivergencePolicy.KEEP_COPY,
    }
    for wrong in ("tank/a", "tank/a=destroy", "=rollback", "../x=rollback"):
        with pytest.raises(Refused, match=r"FILESYSTEM=fail\|rollback\|keep_copy"):
            parse_overrides([wrong])


@pytest.fixture
async def pair() -> Pair:
    """tank/a and tank/a/b replicated once, then tank/a's replica got a life of its own."""
    made = Pair()
    for name in ("tank/a", "tank/a/b"):
        made.fill(name, MIB)
        await made.snapshot(name, "1")
    assert (await made.run()).outcome is Outcome.DONE
    await made.target.snapshot(REPLICA, "own")
    await made.snapshot("tank/a", "2")
    await made.snapshot("tank/a/b", "2")
    return made


async def run(pair: Pair, policy: DivergencePolicy, *, only: str = "") -> Report:
    overrides = {path(only): policy} if only else {}
    job = DivergencePolicy.FAIL if only else policy
    options = ReplicationOptions(divergence=job, overrides=overrides)
    return await pair.run(options=options)


async def names(pair: Pair, dataset: str) -> list[str]:
    listed = await pair.target.versions(DatasetPath.parse(dataset))
    return [version.name for version in listed if version.is_snapshot]


async def the_copy(pair: Pair) -> DatasetPath:
    """The one that was set aside."""
    listed = [dataset.path for dataset in await pair.target.datasets([ROOT])]
    (copy,) = [each for each in listed if copy_around(each) == each]
    assert copy.startswith(f"{REPLICA}.diverged-")
    return copy


async def test_by_default_nothing_is_touched(pair: Pair) -> None:
    before = await pair.target.versions(REPLICA)
    report = await run(pair, DivergencePolicy.FAIL)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert "@own" in report.error
    assert await pair.target.versions(REPLICA) == before
    assert await names(pair, f"{REPLICA}/b") == ["1", "2"]


@pytest.mark.parametrize("only", ["", "tank/a"])
async def test_rollback_goes_to_the_newest_common_snapshot(pair: Pair, only: str) -> None:
    report = await run(pair, DivergencePolicy.ROLLBACK, only=only)
    assert report.outcome is Outcome.DONE, report.error
    assert await names(pair, REPLICA) == ["1", "2"]
    assert pair.same("tank/a", "2")
    assert (await pair.run()).outcome is Outcome.DONE


async def test_a_wish_for_another_filesystem_changes_nothing_here(pair: Pair) -> None:
    report = await run(pair, DivergencePolicy.ROLLBACK, only="tank/a/b")
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert await names(pair, REPLICA) == ["1", "own"]


async def test_a_wish_for_what_the_sender_does_not_offer_fails_and_the_rest_goes_on() -> None:
    made = Pair()
    made.fill("tank/a")
    await made.snapshot("tank/a", "1")
    report = await run(made, DivergencePolicy.KEEP_COPY, only="tank/nope")
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert len(report.attempts) == 1
    assert "tank/nope: the sender offers no such filesystem" in report.error
    assert "`zrepl-trio plan`" in report.error
    assert await names(made, REPLICA) == ["1"]
    assert report.last is not None
    assert [fs.name for fs in report.last.failed] == ["tank/nope"]
    assert the(report, "tank/nope").times is None


async def test_a_wish_may_be_meant_for_another_job() -> None:
    made = Pair()
    made.fill("tank/a")
    await made.snapshot("tank/a", "1")
    options = ReplicationOptions(
        overrides={path("tank/nope"): DivergencePolicy.KEEP_COPY}, overrides_elsewhere=True
    )
    report = await made.run(options=options)
    assert report.outcome is Outcome.DONE, report.error
    assert report.last is not None
    assert [fs.name for fs in report.last.filesystems] == ["tank/a"]


async def test_rollback_of_a_sender_that_was_rolled_back_moves_our_hold(pair: Pair) -> None:
    await run(pair, DivergencePolicy.ROLLBACK)
    await pair.source.rollback(path("tank/a"), "1")
    await pair.snapshot("tank/a", "3")
    report = await run(pair, DivergencePolicy.ROLLBACK)
    assert report.outcome is Outcome.DONE, report.error
    assert await names(pair, REPLICA) == ["1", "3"]
    holds = await pair.target.holds(REPLICA, ["1", "3"])
    assert [(hold.snapshot, hold.tag) for hold in holds] == [("3", "zrepl_last_received_J_dst")]


async def test_anybody_elses_hold_is_respected(pair: Pair) -> None:
    await pair.target.hold(REPLICA, ["own"], "mine")
    before = await pair.target.versions(REPLICA)
    report = await run(pair, DivergencePolicy.ROLLBACK)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert f"zfs release mine {REPLICA}@own" in report.error
    assert await pair.target.versions(REPLICA) == before


async def test_a_bookmark_that_would_go_is_respected(pair: Pair) -> None:
    own = next(v for v in await pair.target.versions(REPLICA) if v.name == "own")
    await pair.target.bookmark(REPLICA, own, "zrepl_CURSOR_G_1_J_offsite")
    report = await run(pair, DivergencePolicy.ROLLBACK)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert f"zfs destroy {REPLICA}#zrepl_CURSOR_G_1_J_offsite" in report.error
    assert await names(pair, REPLICA) == ["1", "own"]


async def test_what_changed_since_the_plan_is_left_alone(pair: Pair) -> None:
    listed = [v for v in await pair.target.versions(REPLICA) if v.is_snapshot]
    request = ResolveRequest(
        filesystem=path("tank/a"),
        way=Way.ROLLBACK,
        expected=tuple(listed),
        to=listed[0],
    )
    await pair.target.snapshot(REPLICA, "just-now")
    with pytest.raises(Refused, match="changed since the plan was made; nothing was done"):
        await pair.receiver.resolve(request)
    assert await names(pair, REPLICA) == ["1", "own", "just-now"]


async def test_keep_copy_sets_the_replica_aside_and_keeps_its_children(pair: Pair) -> None:
    report = await run(pair, DivergencePolicy.KEEP_COPY)
    assert report.outcome is Outcome.DONE, report.error
    assert await names(pair, REPLICA) == ["2"]
    assert pair.same("tank/a", "2")
    # the child is a replica of its own: it went on incrementally
    assert await names(pair, f"{REPLICA}/b") == ["1", "2"]
    assert await names(pair, await the_copy(pair)) == ["1", "own"]
    # the copy is nobody's replica and disturbs no later run
    await pair.snapshot("tank/a", "3")
    assert (await pair.run()).outcome is Outcome.DONE
    assert await names(pair, REPLICA) == ["2", "3"]


async def test_the_copy_can_be_destroyed_with_one_command(pair: Pair) -> None:
    await pair.target.hold(REPLICA, ["own"], "mine")
    await run(pair, DivergencePolicy.KEEP_COPY)
    copy = await the_copy(pair)
    # somebody else's hold is none of ours
    assert [(h.snapshot, h.tag) for h in await pair.target.holds(copy, ["1", "own"])] == [
        ("own", "mine")
    ]
    await pair.target.release(copy, ["own"], "mine")
    pair.target.world.destroy(copy, recursive=True)
    # what is a replica still is held as before
    assert await pair.kept("tank/a") == {"@2=zrepl_last_received_J_dst"}
    assert await pair.kept("tank/a/b") == {"@2=zrepl_last_received_J_dst"}


@pytest.mark.parametrize("failing", ["holds", "release"])
async def test_a_hold_that_stays_on_the_copy_is_told_of_and_stale(pair: Pair, failing: str) -> None:
    async def fail(call: str, dataset: str) -> None:
        if call == failing and copy_around(DatasetPath.parse(dataset)) is not None:
            raise ZfsError("not now")

    pair.target.before = fail
    with capture_logs() as logged:
        report = await run(pair, DivergencePolicy.KEEP_COPY)
    pair.target.before = None
    assert report.outcome is Outcome.DONE, report.error
    copy = await the_copy(pair)
    (done,) = [entry["done"] for entry in logged if "done" in entry]
    assert "(not now)" in done
    assert f"zrepl-trio zfs-abstraction release-stale --fs {copy}" in done
    await destroy_held(pair, copy)


async def test_a_run_that_is_killed_before_it_lets_go_is_made_good(pair: Pair) -> None:
    async def kill(call: str, dataset: str) -> None:
        if call == "release" and copy_around(DatasetPath.parse(dataset)) is not None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

    pair.target.before = kill
    with trio.CancelScope() as scope:
        await run(pair, DivergencePolicy.KEEP_COPY)
    assert scope.cancelled_caught
    pair.target.before = None
    assert (await pair.run()).outcome is Outcome.DONE
    assert await names(pair, REPLICA) == ["2"]
    assert await names(pair, f"{REPLICA}/b") == ["1", "2"]
    await destroy_held(pair, await the_copy(pair))


async def destroy_held(pair: Pair, copy: DatasetPath) -> None:
    """As docs/plan.md says."""
    with pytest.raises(Fault, match="it's being held"):
        pair.target.world.destroy(copy, recursive=True)
    listing = await list_abstractions(pair.target, Selection(filesystems=copy))
    async for _, error in release(pair.target, stale(listing.abstractions)):
        assert error is None
    pair.target.world.destroy(copy, recursive=True)


async def test_keep_copy_of_a_dataset_that_was_created_anew(pair: Pair) -> None:
    pair.source.world.destroy("tank/a/b", recursive=True)
    pair.fill("tank/a/b", MIB, seed=7)
    await pair.snapshot("tank/a/b", "new")
    refused = await run(pair, DivergencePolicy.FAIL)
    assert "was created anew under the same name" in refused.error
    report = await run(pair, DivergencePolicy.KEEP_COPY)
    assert report.outcome is Outcome.DONE, report.error
    assert await names(pair, f"{REPLICA}/b") == ["new"]


async def test_a_dataset_that_was_renamed_on_the_sender_is_named(pair: Pair) -> None:
    await run(pair, DivergencePolicy.ROLLBACK)
    await pair.source.rename(path("tank/a/b"), path("tank/c"))
    report = await pair.run()
    assert report.outcome is Outcome.DONE, report.error
    notes = {each.name: each.note for each in report.attempts[-1].filesystems}
    assert notes["tank/c"].startswith("it was tank/a/b on the sender")
    assert notes["tank/a"] == ""
    # once it has a replica of its own, the old one is nothing to tell of
    await pair.snapshot("tank/c", "3")
    report = await pair.run()
    assert [each.note for each in report.attempts[-1].filesystems] == ["", ""]


async def pushed(pair: Pair, endpoint: Endpoint, options: ReplicationOptions) -> Report:
    """A run with the receiver at the far end of the wire."""

    async def serve(connection: Connection) -> None:
        await serve_connection(connection, endpoint)

    async with open_remote(PairConnecter(serve)) as receiver:
        return await replicate(
            pair.sender,
            receiver,
            options,
            report=pair.reports.append,
            clock=pair.clock,
            decode_token=pair.source.decode_token,
        )


@pytest.mark.parametrize("policy", [DivergencePolicy.ROLLBACK, DivergencePolicy.KEEP_COPY])
async def test_a_receiver_at_the_far_end_does_it_on_request(
    pair: Pair, policy: DivergencePolicy, autojump_clock: trio.abc.Clock
) -> None:
    report = await pushed(pair, pair.receiver, ReplicationOptions(divergence=policy))
    assert report.outcome is Outcome.DONE, report.error
    assert (await names(pair, REPLICA))[-1] == "2"
    assert pair.same("tank/a", "2")


async def test_a_receiver_that_is_a_zrepl_is_told_apart(
    pair: Pair, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(METHODS, "Resolve")
    options = ReplicationOptions(divergence=DivergencePolicy.ROLLBACK)
    report = await pushed(pair, pair.receiver, options)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert "the receiver is a zrepl, which cannot be asked to rollback a replica" in report.error
    assert await names(pair, REPLICA) == ["1", "own"]


REQUEST = ResolveRequest(
    filesystem=path("tank/a"),
    way=Way.ROLLBACK,
    # the counts of holds do not cross
    expected=tuple(replace(version, userrefs=None) for version in versions("@a,1 @x,9")),
    to=replace(versions("@a,1")[0], userrefs=None),
    stamp="20261126T030000Z",
)


def test_the_request_crosses_the_wire_whole() -> None:
    assert decode_resolve(encode_resolve(REQUEST)) == REQUEST
    copy = replace(REQUEST, way=Way.KEEP_COPY, to=None)
    assert decode_resolve(encode_resolve(copy)) == copy


@pytest.mark.parametrize(
    "wrong",
    [
        pdu.ResolveReq(Filesystem="tank/../a", Way="keep_copy"),
        pdu.ResolveReq(Filesystem="tank/a", Way="destroy"),
        pdu.ResolveReq(Filesystem="tank/a", Way="rollback"),
        pdu.ResolveReq(Filesystem="tank/a", Way="keep_copy", Stamp="x/y"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wrong: pdu.ResolveReq) -> None:
    with pytest.raises(InvalidContent):
        decode_resolve(wrong.SerializeToString())


@pytest.fixture
async def occupied() -> Pair:
    """In the place of tank/a's replica is a filesystem with data and no snapshot, and tank/a/b's below it."""
    made = Pair()
    for name in ("tank/a", "tank/a/b"):
        made.fill(name, MIB)
    await made.snapshot("tank/a/b", "1")
    await made.run()
    await made.target.set_properties(REPLICA, {"zrepl:placeholder": "off"})
    made.target.write(REPLICA, {"precious": b"data"})
    await made.snapshot("tank/a", "1")
    return made


@pytest.mark.parametrize("policy", [DivergencePolicy.FAIL, DivergencePolicy.ROLLBACK])
async def test_what_has_no_snapshots_is_left_alone(
    occupied: Pair, policy: DivergencePolicy
) -> None:
    report = await run(occupied, policy)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    assert "without any snapshot, which is not a placeholder" in report.error
    assert occupied.target.read(REPLICA) == {"precious": b"data"}


@pytest.mark.parametrize("only", ["", "tank/a"])
async def test_what_has_no_snapshots_is_kept_as_a_copy(occupied: Pair, only: str) -> None:
    report = await run(occupied, DivergencePolicy.KEEP_COPY, only=only)
    assert report.outcome is Outcome.DONE, report.error
    assert await names(occupied, REPLICA) == ["1"]
    assert occupied.same("tank/a", "1")
    assert occupied.same("tank/a/b", "1")
    assert occupied.target.read(await the_copy(occupied)) == {"precious": b"data"}
