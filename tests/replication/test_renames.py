"""Datasets renamed on the sender: with `renames: follow` their replicas are renamed, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.notation import path, versions
from tests.replication.pair import MIB, ROOT, Pair
from tests.replication.test_divergence import pushed
from zrepl_trio.endpoint.model import Filesystem, ResolveRequest, Way
from zrepl_trio.errors import Refused
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.preview import preview
from zrepl_trio.replication.renames import Followers, renamed
from zrepl_trio.replication.report import Outcome, Report
from zrepl_trio.rpc.elements import InvalidContent
from zrepl_trio.rpc.extensions import decode_resolve, encode_resolve
from zrepl_trio.zfs.names import DatasetPath

FOLLOW = ReplicationOptions(follow_renames=True)


def side(listed: str) -> list[Filesystem]:
    """From `path=guid path …`."""
    found = []
    for word in listed.split():
        name, _, guid = word.partition("=")
        found.append(Filesystem(path=path(name), dataset_guid=int(guid) if guid else None))
    return found


@pytest.mark.parametrize(
    ("sender", "receiver", "found"),
    [
        ("t/a=1", "t/a=1", {}),
        ("t/b=1", "t/a=1", {"t/b": "t/a"}),
        ("t/b=1 t/b/c=2", "t/a=1 t/a/c=2", {"t/b": "t/a", "t/b/c": "t/a/c"}),
        # unknown guids, another dataset under the old name, something under the new one
        ("t/b", "t/a", {}),
        ("t/b=1 t/a=2", "t/a=1", {}),
        ("t/b=1", "t/a=1 t/b=3", {}),
        # not certain which; set aside; another replica would be taken along
        ("t/b=1", "t/a=1 t/c=1", {}),
        ("t/b=1", "t/a.diverged-20260101T000000Z=1", {}),
        ("t/b=1 t/a/c=2", "t/a=1 t/a/c=2", {}),
    ],
)
def test_a_replica_is_known_by_the_guid_that_is_noted_on_it(
    sender: str, receiver: str, found: dict[str, str]
) -> None:
    assert renamed(side(sender), side(receiver)) == found


def test_followers_are_looked_for_where_those_before_them_have_brought_them() -> None:
    followers = Followers()
    parent, after = followers.follow(path("t/a"), path("t/b"), versions("@1,1 #m,2"))
    assert (parent.old, after) == ((path("t/a"),), None)
    assert parent == ResolveRequest(
        filesystem=path("t/b"), way=Way.RENAME, expected=parent.expected, old=(path("t/a"),)
    )
    assert [version.name for version in parent.expected] == ["1"]
    child, after = followers.follow(path("t/a/c"), path("t/b/x"), ())
    assert (child.old, after) == ((path("t/b/c"), path("t/a/c")), path("t/b"))
    grandchild, after = followers.follow(path("t/a/c/d"), path("t/b/x/d"), ())
    assert (grandchild.old[0], after) == (path("t/b/x/d"), path("t/b/x"))
    other, after = followers.follow(path("t/ab"), path("t/z"), ())
    assert (other.old, after) == ((path("t/ab"),), None)


def test_the_request_crosses_the_wire_whole() -> None:
    snapshots = tuple(replace(v, userrefs=None) for v in versions("@1,1 @2,2"))
    request = ResolveRequest(
        filesystem=path("t/b"),
        way=Way.RENAME,
        expected=snapshots,
        old=(path("t/b/c"), path("t/a")),
    )
    assert decode_resolve(encode_resolve(request)) == request
    for wrong in (replace(request, old=()), replace(request, way=Way.KEEP_COPY)):
        with pytest.raises(InvalidContent, match="old names"):
            decode_resolve(encode_resolve(wrong))


@pytest.fixture
async def pair() -> Pair:
    """tank/a and tank/a/b replicated, then tank/a renamed to tank/new/x, each with something new."""
    made = Pair()
    for name in ("tank/a", "tank/a/b"):
        made.fill(name, MIB)
        await made.snapshot(name, "1")
    assert (await made.run()).outcome is Outcome.DONE
    made.fill("tank/new", MIB)
    await made.source.rename(path("tank/a"), path("tank/new/x"))
    for name in ("tank/new", "tank/new/x", "tank/new/x/b"):
        await made.snapshot(name, "2")
    return made


async def names(pair: Pair, dataset: str) -> list[str]:
    listed = await pair.target.versions(path(f"{ROOT}/{dataset}"))
    return [version.name for version in listed if version.is_snapshot]


def problems(report: Report) -> dict[str, str]:
    return {each.name: each.error.text for each in report.attempts[-1].filesystems if each.error}


async def replicas(pair: Pair) -> set[str]:
    return {each.path.removeprefix(f"{ROOT}/") for each in await pair.target.datasets([ROOT])}


async def test_by_default_it_is_sent_anew(pair: Pair) -> None:
    report = await pair.run()
    assert report.outcome is Outcome.DONE, report.error
    assert await names(pair, "tank/new/x") == ["2"]
    assert await names(pair, "tank/a") == ["1"]
    assert "renames: follow" in report.attempts[-1].filesystems[1].note


async def test_replicas_follow_and_go_on_incrementally(pair: Pair) -> None:
    report = await pair.run(options=FOLLOW)
    assert report.outcome is Outcome.DONE, report.error
    for name in ("tank/new/x", "tank/new/x/b"):
        assert await names(pair, name) == ["1", "2"]
        assert pair.same(name, "2")
    assert await names(pair, "tank/new") == ["2"]
    assert await replicas(pair) == {ROOT, "tank", "tank/new", "tank/new/x", "tank/new/x/b"}
    # the protection moved with them, and nothing is left to do
    assert (await pair.run(options=FOLLOW)).outcome is Outcome.DONE
    holds = await pair.target.holds(path(f"{ROOT}/tank/new/x"), ["1", "2"])
    assert [(hold.snapshot, hold.tag) for hold in holds] == [("2", "zrepl_last_received_J_dst")]


async def test_those_at_the_far_end_of_a_push_follow(autojump_clock: trio.abc.Clock) -> None:
    """The sink has nobody but the pusher to tell it whose the replica is."""
    pair = Pair()
    pair.fill("tank/a", MIB)
    await pair.snapshot("tank/a", "1")
    assert (await pushed(pair, pair.receiver, FOLLOW)).outcome is Outcome.DONE
    await pair.source.rename(path("tank/a"), path("tank/z"))
    await pair.snapshot("tank/z", "2")
    report = await pushed(pair, pair.receiver, FOLLOW)
    assert report.outcome is Outcome.DONE, report.error
    assert await replicas(pair) == {ROOT, "tank", "tank/z"}
    assert await names(pair, "tank/z") == ["1", "2"]


async def test_those_without_anything_new_follow_as_well() -> None:
    pair = Pair()
    for name in ("tank/a", "tank/a/b"):
        pair.fill(name, MIB)
        await pair.snapshot(name, "1")
    await pair.run()
    await pair.source.rename(path("tank/a/b"), path("tank/a/c"))
    await pair.source.rename(path("tank/a"), path("tank/z"))
    report = await pair.run(options=FOLLOW)
    assert report.outcome is Outcome.DONE, report.error
    assert await replicas(pair) == {ROOT, "tank", "tank/z", "tank/z/c"}


async def test_the_plan_tells_and_changes_nothing(pair: Pair) -> None:
    before = await replicas(pair)
    plan = await plan_all(
        pair.sender, pair.receiver, options=FOLLOW, decode_token=pair.source.decode_token
    )
    shown = {
        each.path: each for each in preview(plan, lambda _path, _index: None, FOLLOW.protection)
    }
    assert shown[path("tank/new")].renames is None
    assert shown[path("tank/new/x")].renames == "tank/a"
    assert shown[path("tank/new/x/b")].renames == "tank/a/b"
    assert [step.from_ for step in shown[path("tank/new/x/b")].steps] == ["@1"]
    assert all("tank/new/x" not in each.placeholders for each in shown.values())
    assert await replicas(pair) == before


async def test_a_rename_that_fails_stops_all_that_goes_along(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.fill("tank/new/x/fresh", MIB)
    await pair.snapshot("tank/new/x/fresh", "1")

    async def refuse(_old: DatasetPath, _new: DatasetPath) -> None:
        raise Refused("no renames today")

    monkeypatch.setattr(pair.target, "rename", refuse)
    report = await pair.run(options=FOLLOW)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    told = problems(report)
    assert told.pop("tank/new/x") == "no renames today"
    assert set(told) == {"tank/new/x/b", "tank/new/x/fresh"}
    assert all("tank/new/x has to get its new name first" in text for text in told.values())
    # nothing stands in the way of the next run
    monkeypatch.undo()
    report = await pair.run(options=FOLLOW)
    assert report.outcome is Outcome.DONE, report.error
    assert await names(pair, "tank/new/x/b") == ["1", "2"]
    assert await names(pair, "tank/new/x/fresh") == ["1"]
    assert "tank/a" not in await replicas(pair)


@pytest.mark.parametrize("policy", [DivergencePolicy.FAIL, DivergencePolicy.ROLLBACK])
async def test_a_replica_that_does_not_fit_is_left_alone(
    pair: Pair, policy: DivergencePolicy
) -> None:
    """An admin may have renamed it so, on the receiver, to have the filesystem sent anew."""
    await pair.target.snapshot(path(f"{ROOT}/tank/a"), "own")
    report = await pair.run(options=replace(FOLLOW, divergence=policy))
    assert report.outcome is Outcome.DONE, report.error
    (told,) = [f.note for f in report.attempts[-1].filesystems if f.name == "tank/new/x"]
    assert "cannot be gone on with" in told
    assert "renames: follow" not in told  # which it has already
    assert await names(pair, "tank/a") == ["1", "own"]
    assert await names(pair, "tank/new/x") == ["2"]
    # what is below fits, and follows
    assert await names(pair, "tank/new/x/b") == ["1", "2"]


async def test_what_changed_since_the_plan_is_not_renamed(pair: Pair) -> None:
    old, new = path("tank/a"), path("tank/new/x")
    local = path(f"{ROOT}/tank/a")
    listed = tuple(v for v in await pair.target.versions(local) if v.is_snapshot)
    request = ResolveRequest(filesystem=new, way=Way.RENAME, expected=listed, old=(old,))
    await pair.target.snapshot(local, "just-now")
    with pytest.raises(Refused, match="changed since the plan was made"):
        await pair.receiver.resolve(request)
    await pair.target.destroy_snapshots(local, ["just-now"])
    for name in ("tank/new", "tank/new/x"):
        await pair.target.create_filesystem(path(f"{ROOT}/{name}"), {})
    with pytest.raises(Refused, match="exists already"):
        await pair.receiver.resolve(request)
    assert "tank/a" in await replicas(pair)


async def test_a_partly_received_state_is_given_up(pair: Pair) -> None:
    await pair.source.rename(path("tank/new/x"), path("tank/a"))
    pair.fill("tank/a", 4 * MIB, seed=3)
    await pair.snapshot("tank/a", "3")
    pair.cable.cut_after = 3 * MIB
    await pair.run(options=replace(FOLLOW, attempts=1))
    replica = await pair.target.dataset(path(f"{ROOT}/tank/a"))
    assert replica is not None
    assert replica.resume_token is not None
    await pair.source.rename(path("tank/a"), path("tank/z"))
    report = await pair.run(options=FOLLOW)
    assert report.outcome is Outcome.DONE, report.error
    assert (await names(pair, "tank/z"))[-1] == "3"
    assert pair.same("tank/z", "3")


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts(request.param, tmp_path) as opened:
        yield opened


@pytest.mark.slow
async def test_replicas_follow_by_zfs_commands(hosts: Hosts) -> None:
    for name in ("ztsrc/a", "ztsrc/a/b"):
        await hosts.create(name)
        await hosts.fill(name, MIB)
        await hosts.snapshot(name, "1")
    assert (await hosts.run(FOLLOW)).outcome is Outcome.DONE
    await hosts.create("ztsrc/new")
    await hosts.command("rename", "ztsrc/a/b", "ztsrc/a/c")
    await hosts.command("rename", "ztsrc/a", "ztsrc/new/x")
    await hosts.snapshot("ztsrc/new/x", "2")
    report = await hosts.run(FOLLOW)
    # ztsrc/new has no snapshot: its own affair
    told = problems(report)
    assert set(told) == {"ztsrc/new"}, report.error
    assert await hosts.received("ztsrc/new/x") == ["1", "2"]
    assert await hosts.received("ztsrc/new/x/c") == ["1"]
    assert await hosts.same("ztsrc/new/x/c", "1")
    assert await hosts.zfs.dataset(hosts.local("ztsrc/a")) is None
