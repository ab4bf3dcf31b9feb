"""Runs that move several snapshots in one stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import Pair, the
from tests.support.resources import cancelled_after
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, SendRequest
from zrepl_trio.errors import Refused
from zrepl_trio.replication import ranges
from zrepl_trio.replication.policy import InitialReplication, ReplicationOptions
from zrepl_trio.replication.report import Outcome

KINDS = {
    kind: ReplicationOptions(
        initial=InitialReplication.ALL, protection=Protection(initial=kind, incremental=kind)
    )
    for kind in GuaranteeKind
}
RESUMABILITY = KINDS[GuaranteeKind.RESUMABILITY]


@pytest.fixture
async def pair(autojump_clock: trio.testing.MockClock) -> Pair:
    """20 snapshots to send, of 64 KiB each; all but one new on the receiver."""
    del autojump_clock
    made = Pair()
    made.cable.moves_ranges = True
    await take(made, range(20))
    return made


async def take(pair: Pair, numbers: range, *names: str, size: int = 64 * 1024) -> None:
    """Those snapshots on the source, each of so many new bytes."""
    for number in numbers:
        for name in names or ("tank/a",):
            pair.fill(name, size, seed=number)
            await pair.snapshot(name, f"{number:02}")


def sends(pair: Pair) -> int:
    return pair.cable.calls.count("send tank/a")


def marks_now(pair: Pair) -> set[str]:
    """As `Pair.marks`, in the middle of a call."""
    dataset = pair.source.world.get("tank/a")
    assert dataset is not None
    holds = {f"@{snap.name}={tag}" for snap in dataset.snapshots.values() for tag in snap.holds}
    return holds | {f"#{name}" for name in dataset.bookmarks}


NAMES = [f"{number:02}" for number in range(20)]


async def test_a_filesystem_catches_up_by_a_range(pair: Pair) -> None:
    report = await pair.run(options=RESUMABILITY)
    assert report.outcome is Outcome.DONE
    assert sends(pair) == 2  # in full, and the rest
    assert pair.cable.calls.count("send_completed tank/a") == 2
    assert pair.cable.calls.count("send_dry tank/a") <= 1
    assert pair.cable.calls.count("range_sizes tank/a") == 1
    assert await pair.received("tank/a") == NAMES
    assert all(pair.same("tank/a", name) for name in NAMES)
    shown = the(report, "tank/a")
    assert shown.current == 20
    assert all(60_000 < step.replicated < 80_000 for step in shown.steps[1:])
    # the cursor alone is left, and the receiver's hold, both at the last snapshot
    last = (await pair.source.versions(path("tank/a")))[-1]
    assert await pair.marks("tank/a") == {f"#zrepl_CURSOR_G_{last.guid:016x}_J_src"}
    assert await pair.kept("tank/a") == {"@19=zrepl_last_received_J_dst"}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_snapshot_of_a_running_range_is_protected(
    pair: Pair, kind: GuaranteeKind
) -> None:
    marks: list[set[str]] = []
    pair.cable.at(300_000, lambda: marks.append(marks_now(pair)))
    report = await pair.run(options=KINDS[kind])
    assert report.outcome is Outcome.DONE
    held = {mark.partition("=")[0][1:] for mark in marks[0] if mark[0] == "@"}
    tentative = {mark for mark in marks[0] if "CURSORTENTATIVE" in mark}
    match kind:
        case GuaranteeKind.RESUMABILITY:
            assert held == set(NAMES)
        case GuaranteeKind.INCREMENTAL:
            assert held == set(NAMES[1:-1])
            assert len(tentative) == 1  # the first snapshot has the cursor
        case GuaranteeKind.NOTHING:
            assert not held | tentative


async def test_a_peer_that_is_a_zrepl_gets_one_step_a_snapshot(pair: Pair) -> None:
    pair.cable.moves_ranges = False
    report = await pair.run(options=RESUMABILITY)
    assert report.outcome is Outcome.DONE
    assert sends(pair) == 20
    assert "range_sizes tank/a" not in pair.cable.calls


async def test_ranges_are_bounded_so_that_filesystems_take_turns(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ranges.Budget(steps=4, size=1 << 30)
    monkeypatch.setattr("zrepl_trio.replication.execute.FIRST_BUDGET", small)
    monkeypatch.setattr("zrepl_trio.replication.ranges.RANGE_S", 0.0)  # none may grow
    await take(pair, range(20, 40), "tank/a", "tank/b", size=1000)
    report = await pair.run(options=RESUMABILITY)
    assert report.outcome is Outcome.DONE
    order = [call.partition(" ")[2] for call in pair.cable.calls if call.startswith("send tank")]
    assert len(order) > 8
    assert order != sorted(order)


async def test_a_cut_range_keeps_what_came_and_goes_on_inside(pair: Pair) -> None:
    await pair.run(options=RESUMABILITY)
    await take(pair, range(20, 40))
    versions = {v.name: v for v in await pair.source.versions(path("tank/a")) if v.is_snapshot}
    pair.cable.moved = 0
    pair.cable.cut_after = 10 * 66_000
    report = await pair.run(options=replace(RESUMABILITY, attempts=1))
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    came = await pair.received("tank/a")
    assert 27 < len(came) < 32
    shown = the(report, "tank/a")
    assert shown.current == len(came) - 20
    assert "the link broke" in str(shown.error)
    # the cursor follows what the receiver has, and so does its hold; the rest stays held
    newest = versions[came[-1]]
    marks = await pair.marks("tank/a")
    assert f"#zrepl_CURSOR_G_{newest.guid:016x}_J_src" in marks
    assert sum(mark[0] == "#" for mark in marks) == 1
    assert {mark[1:3] for mark in marks if mark[0] == "@"} == {*map(str, range(len(came), 40))}
    assert f"@{came[-1]}=zrepl_last_received_J_dst" in await pair.kept("tank/a")

    report = await pair.run(options=RESUMABILITY)
    assert report.outcome is Outcome.DONE
    assert await pair.received("tank/a") == [*NAMES, *map(str, range(20, 40))]
    assert all(pair.same("tank/a", name) for name in versions)
    assert pair.cable.moved < 20 * 66_000 + 70_000
    last = versions["39"]
    assert await pair.marks("tank/a") == {f"#zrepl_CURSOR_G_{last.guid:016x}_J_src"}
    assert await pair.kept("tank/a") == {"@39=zrepl_last_received_J_dst"}


async def test_a_range_whose_partial_arrival_cannot_be_told_is_confirmed_later(pair: Pair) -> None:
    await pair.run(options=RESUMABILITY)
    await take(pair, range(20, 40))
    pair.cable.at(pair.cable.moved + 660_000, lambda: setattr(pair.cable, "down", True))
    report = await pair.run(options=replace(RESUMABILITY, attempts=1))
    assert report.outcome is not Outcome.DONE
    assert len(await pair.received("tank/a")) > 27
    pair.cable.down = False
    report = await pair.run(options=RESUMABILITY)
    assert report.outcome is Outcome.DONE
    assert len(await pair.received("tank/a")) == 40


async def test_a_snapshot_destroyed_since_planning_ends_the_range_and_the_next_plan_does_without(
    pair: Pair,
) -> None:
    async def lose(call: str, dataset: str) -> None:
        if call == "packed_sizes":
            await pair.lose("tank/a", "10")

    pair.source.before = lose
    report = await pair.run(options=RESUMABILITY)
    pair.source.before = None
    if report.outcome is not Outcome.DONE:
        await pair.settled()
    assert await pair.received("tank/a") == [name for name in NAMES if name != "10"]


async def test_a_range_that_is_not_what_there_is_is_refused(pair: Pair) -> None:
    versions = await pair.source.versions(path("tank/a"))
    bookmark = "mark"
    await pair.source.bookmark(path("tank/a"), versions[0], bookmark)
    (mark,) = [v for v in await pair.source.versions(path("tank/a")) if not v.is_snapshot]
    request = SendRequest(
        filesystem=path("tank/a"),
        from_=versions[0],
        between=(versions[1], versions[2]),
        to=versions[3],
    )
    for wrong, text in (
        (replace(request, between=(versions[1],)), "changed since"),
        (replace(request, between=(versions[2], versions[1])), "changed since"),
        (replace(request, from_=mark), "starts at a snapshot"),
        (replace(request, from_=None), "starts at a snapshot"),
        (replace(request, resume_token="1-2"), "cannot be resumed"),
    ):
        with pytest.raises(Refused, match=text):
            async with pair.sender.send(wrong):
                pass
    assert await pair.marks("tank/a") == {"#mark"}


@pytest.mark.parametrize("kind", [GuaranteeKind.RESUMABILITY, GuaranteeKind.INCREMENTAL])
@pytest.mark.parametrize("step", range(20, 700, 23))
async def test_a_run_killed_anywhere_leaves_all_it_needs(
    pair: Pair, kind: GuaranteeKind, step: int
) -> None:
    """Whatever is not held may be destroyed after the kill: the increment must still be possible."""
    options = KINDS[kind]
    await cancelled_after(step, lambda: pair.run(options=options))
    received = await pair.received("tank/a") if pair.target.world.get(pair.local("tank/a")) else []
    for version in await pair.source.versions(path("tank/a")):
        if version.is_snapshot and version.userrefs == 0 and version.name != "19":
            await pair.source.destroy_snapshots(path("tank/a"), [version.name])
    report = await pair.run(options=options)
    assert report.outcome is Outcome.DONE, report.error
    after = await pair.received("tank/a")
    assert after[: len(received)] == received
    assert after[-1] == "19"
    assert pair.same("tank/a", "19")
    await take(pair, range(20, 21))
    await pair.run(options=options)
    assert len(await pair.marks("tank/a")) == 1
