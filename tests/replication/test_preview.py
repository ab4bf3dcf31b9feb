"""What is shown of a plan is what the run then does."""

from __future__ import annotations

import json

import pytest

from tests.replication.pair import MIB, ROOT, Pair
from tests.rpc.pairs import remote
from zrepl_trio.cli.planview import plan_lines
from zrepl_trio.endpoint.abstractions import (
    cursor_name,
    last_received_tag,
    step_tag,
    tentative_name,
)
from zrepl_trio.endpoint.aside import copy_around
from zrepl_trio.endpoint.model import GuaranteeKind, Marks, Protection, SendRequest
from zrepl_trio.endpoint.protocol import TellsMarks
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.errors import TransportError
from zrepl_trio.replication.dropped import Dropped
from zrepl_trio.replication.plan import RunPlan
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.preview import FilesystemPreview, preview, total
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.names import DatasetPath


@pytest.fixture
async def pair() -> Pair:
    made = Pair()
    for name in ("tank/a", "tank/a/b"):
        made.fill(name, MIB)
        await made.snapshot(name, "1")
    return made


async def planned(
    pair: Pair,
    protection: Protection = Protection(),  # noqa: B008 - frozen
) -> list[FilesystemPreview]:
    plan: RunPlan = await plan_all(
        pair.sender,
        pair.receiver,
        options=ReplicationOptions(),
        decode_token=pair.target.decode_token,
    )
    sizes = {(DatasetPath.parse("tank/a"), 0): 1000}
    return preview(plan, lambda path, index: sizes.get((path, index)), protection)


async def told(side: TellsMarks, path: DatasetPath) -> dict[DatasetPath, Marks]:
    """As a peer is told: over the wire."""
    assert isinstance(side, Sender | Receiver)
    async with remote(side) as far:
        (marks,) = (await far.marks_of([path])).values()
    assert isinstance(marks, Marks)
    return {path: marks}


def text(previews: list[FilesystemPreview]) -> str:
    lines = plan_lines("job", "pull", "u@h:22", previews)
    return "\n".join(line.plain.rstrip() for line in lines)


async def test_a_first_replication_names_placeholders_and_protection(pair: Pair) -> None:
    assert (
        text(await planned(pair))
        == """\
job  pull from u@h:22
  tank/a  1 step, 1000 B
    makes the placeholder tank
    full send @1  1000 B
    sender: holds @1 while they are sent
    sender: the cursor moves to @1
    receiver: its hold moves to @1
  tank/a/b  1 step, size unknown
    full send @1  size unknown
    sender: holds @1 while they are sent
    sender: the cursor moves to @1
    receiver: its hold moves to @1
  2 filesystems: 2 steps, at least 1000 B"""
    )


async def test_what_is_shown_is_what_is_done(pair: Pair) -> None:
    before = await planned(pair)
    made = before[0].placeholders
    report = await pair.run()
    assert report.outcome is Outcome.DONE
    for path in made:
        dataset = await pair.target.dataset(_below(path))
        assert dataset is not None
        assert dataset.is_placeholder
    assert [each.steps for each in await planned(pair)] == [(), ()]
    assert "tank/a, tank/a/b: up to date" in text(await planned(pair))


def _below(path: str) -> DatasetPath:
    return DatasetPath.parse(f"{ROOT}/{path}")


@pytest.mark.parametrize(
    ("kind", "hold", "tentative", "cursor"),
    [
        (GuaranteeKind.RESUMABILITY, ("@1", "@2"), (), "@2"),
        (GuaranteeKind.INCREMENTAL, (), ("@1", "@2"), "@2"),
        (GuaranteeKind.NOTHING, (), (), None),
    ],
)
async def test_each_kind_of_protection_is_told(
    pair: Pair,
    kind: GuaranteeKind,
    hold: tuple[str, ...],
    tentative: tuple[str, ...],
    cursor: str | None,
) -> None:
    await pair.run()
    await pair.snapshot("tank/a", "2")
    (step,) = (await planned(pair, Protection(incremental=kind)))[0].steps
    assert (step.from_, step.to) == ("@1", "@2")
    assert step.hold == hold
    assert step.tentative == tentative
    assert step.cursor == step.received_hold == cursor


async def test_a_conflict_shows_both_sides_and_what_each_way_out_destroys(pair: Pair) -> None:
    await pair.run()
    replica = _below("tank/a")
    await pair.target.snapshot(replica, "own")
    await pair.snapshot("tank/a", "2")
    found = (await planned(pair))[0]
    shown = text([found])
    assert "rollback: rolls the replica back to @1, which both sides have; destroys @own" in shown
    assert "keep_copy: " in shown
    assert "destroys nothing" in shown
    assert "1 cannot be replicated" in shown
    told = json.loads(json.dumps(found.to_json()))
    assert told["place"] == f"{ROOT}/tank/a"
    assert told["conflict"]["kind"] == "receiver-only snapshots"
    assert [v["name"] for v in told["conflict"]["sender"] if v["name"][0] == "@"] == ["@1", "@2"]
    assert [v["name"] for v in told["conflict"]["receiver"]] == ["@1", "@own"]
    assert told["conflict"]["common"]["name"] in {"@1", told["conflict"]["sender"][0]["name"]}
    assert {r["name"]: [v["name"] for v in r["destroys"]] for r in told["resolutions"]} == {
        "keep_copy": [],
        "rollback": ["@own"],
    }


@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("kind", GuaranteeKind)
async def test_what_is_said_to_go_is_what_goes(
    pair: Pair, kind: GuaranteeKind, *, ranges: bool
) -> None:
    """Of what earlier steps, and one that was interrupted, left behind on both sides."""
    a, replica = DatasetPath.parse("tank/a"), _below("tank/a")
    await pair.run()
    for name in ("2", "3"):
        await pair.snapshot("tank/a", name)
    first, *_ = [v for v in await pair.source.versions(a) if v.is_snapshot]
    await pair.source.bookmark(a, first, tentative_name(a, first.guid, "src"))
    await pair.source.bookmark(a, first, cursor_name(a, first.guid, "other"))
    for tag in (step_tag("src"), step_tag("other"), "mine"):
        await pair.source.hold(a, ["1"], tag)
    await pair.target.hold(replica, ["1"], "mine")
    protection = Protection(incremental=kind)
    plan = await plan_all(
        pair.sender,
        pair.receiver,
        options=ReplicationOptions(protection=protection),
        decode_token=pair.target.decode_token,
    )
    (shown, _) = preview(
        plan,
        lambda _path, _index: 10,
        protection,
        ranges=ranges,
        sender=await told(pair.sender, a),
        receiver=await told(pair.receiver, a),
    )
    sent, kept = await pair.marks("tank/a"), await pair.kept("tank/a")
    pair.cable.moves_ranges = ranges
    report = await pair.run(options=ReplicationOptions(protection=protection))
    assert report.outcome is Outcome.DONE, report.error
    assert sent - await pair.marks("tank/a") == {
        *(f"{name}={step_tag('src')}" for name in shown.sender.releases or ()),
        *(shown.sender.destroys or ()),
    }
    assert kept - await pair.kept("tank/a") == {
        f"{name}={last_received_tag('dst')}" for name in shown.receiver.releases or ()
    }
    assert shown.sender.releases == shown.receiver.releases == ("@1",)
    assert set(shown.sender.destroys or ()) == {
        f"#{cursor_name(a, first.guid, 'src')}",
        f"#{tentative_name(a, first.guid, 'src')}",
    }
    said = text([shown])
    assert "sender: releases what it holds of @1" in said
    assert f"#{cursor_name(a, first.guid, 'src')}" in said.partition("sender: destroys")[2]
    assert "receiver: releases what it holds of @1" in said


@pytest.mark.parametrize("policy", [DivergencePolicy.ROLLBACK, DivergencePolicy.KEEP_COPY])
async def test_what_goes_as_a_conflict_is_settled_is_said_too(
    pair: Pair, policy: DivergencePolicy
) -> None:
    await pair.run()
    a, replica = DatasetPath.parse("tank/a"), _below("tank/a")
    await pair.target.snapshot(replica, "own")
    await pair.target.hold(replica, ["own"], last_received_tag("dst"))
    await pair.snapshot("tank/a", "2")
    options = ReplicationOptions(divergence=policy)
    plan = await plan_all(
        pair.sender, pair.receiver, options=options, decode_token=pair.target.decode_token
    )
    marks = await told(pair.receiver, a)
    (shown, _) = preview(plan, lambda _path, _index: 10, Protection(), receiver=marks)
    assert set(shown.receiver.releases or ()) == {"@1", "@own"}
    assert (await pair.run(options=options)).outcome is Outcome.DONE
    for dataset in await pair.target.datasets([ROOT]):
        if dataset.path == replica or copy_around(dataset.path) is not None:
            there = [v.name for v in await pair.target.versions(dataset.path)]
            held = {hold.snapshot for hold in await pair.target.holds(dataset.path, there)}
            assert held <= {"2"}


async def test_what_goes_as_the_sender_is_told_of_an_earlier_step_is_said(pair: Pair) -> None:
    await pair.run()
    await pair.snapshot("tank/a", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair.sender, "send_completed", _unheard)
        await pair.run(options=ReplicationOptions(attempts=1))
    a = DatasetPath.parse("tank/a")
    plan = await plan_all(
        pair.sender,
        pair.receiver,
        options=ReplicationOptions(),
        decode_token=pair.target.decode_token,
    )
    marks = await told(pair.sender, a)
    (shown, _) = preview(plan, lambda _path, _index: None, Protection(), sender=marks)
    before = await pair.marks("tank/a")
    await pair.settled()
    assert before - await pair.marks("tank/a") == {
        *(f"{name}={step_tag('src')}" for name in shown.sender.releases or ()),
        *(shown.sender.destroys or ()),
    }
    assert shown.steps == ()
    assert shown.sender.releases == ("@1", "@2")
    assert len(shown.sender.destroys or ()) == 1


async def _unheard(_request: SendRequest) -> None:
    raise TransportError("it broke")


async def test_of_a_zrepl_only_bookmarks_are_known_and_whose_by_the_base(
    pair: Pair,
) -> None:
    a = DatasetPath.parse("tank/a")
    assert (await planned(pair))[0].to_json()["sender_destroys"] is None  # type: ignore[index, call-overload]
    await pair.run()
    await pair.snapshot("tank/a", "2")
    first, *_ = [v for v in await pair.source.versions(a) if v.is_snapshot]
    (found, _) = await planned(pair)
    assert found.sender == Dropped(destroys=(f"#{cursor_name(a, first.guid, 'src')}",))
    assert found.receiver == Dropped()
    told = json.loads(json.dumps(found.to_json()))
    assert (told["sender_releases"], told["receiver_releases"]) == (None, None)
    assert told["sender_destroys"] == list(found.sender.destroys or ())
    # another job has its cursor there, too: who knows which of them is the peer's
    await pair.source.bookmark(a, first, cursor_name(a, first.guid, "other"))
    (found, _) = await planned(pair)
    assert found.sender == Dropped()
    assert "destroys" not in text([found])


async def test_a_filesystem_that_is_up_to_date_lets_go_of_nothing(pair: Pair) -> None:
    await pair.run()
    assert [each.sender for each in await planned(pair)] == [Dropped(), Dropped()]


async def test_the_sum_says_when_it_is_a_lower_bound(pair: Pair) -> None:
    assert total(await planned(pair)) == (2, 1000, False)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (GuaranteeKind.RESUMABILITY, ["sender: holds @1, @2, @3, @4 while they are sent"]),
        (
            GuaranteeKind.INCREMENTAL,
            [
                "sender: holds @2, @3 while they are sent",
                "sender: tentative cursors at @1, @4 while they are sent",
            ],
        ),
    ],
)
async def test_a_range_shows_what_protects_it_and_is_protected_so(
    pair: Pair, kind: GuaranteeKind, said: list[str]
) -> None:
    await pair.run()
    for name in ("2", "3", "4"):
        await pair.snapshot("tank/a", name)
    protection = Protection(incremental=kind)
    plan = await plan_all(
        pair.sender,
        pair.receiver,
        options=ReplicationOptions(),
        decode_token=pair.target.decode_token,
    )
    (found, _) = preview(plan, lambda _path, _index: 10, protection, ranges=True)
    assert [step.stream for step in found.steps] == [0, 0, 0]
    assert [step.cursor for step in found.steps] == [None, None, "@4"]
    shown = text([found]).splitlines()
    assert "    all in one stream" in shown
    assert [line.strip() for line in shown if "while they are sent" in line] == said

    protected: set[str] = set()

    async def look(call: str, _dataset: str) -> None:
        if call == "open_send":
            a = DatasetPath.parse("tank/a")
            world = pair.source.world.open(a)
            protected.update(f"@{name}" for name, snap in world.snapshots.items() if snap.holds)
            protected.update(f"#{mark}" for mark in world.bookmarks if "CURSORTENTATIVE" in mark)

    pair.source.before = look
    pair.cable.moves_ranges = True
    report = await pair.run(options=ReplicationOptions(protection=protection))
    assert report.outcome is Outcome.DONE, report.error
    held = {name for step in found.steps for name in step.hold}
    assert {name for name in protected if name[0] == "@"} == held
    # the first snapshot has a cursor already, which is as good
    marks = {name for step in found.steps for name in step.tentative} - {"@1"}
    assert len([name for name in protected if name[0] == "#"]) == len(marks)


async def test_a_filesystem_in_the_way_shows_the_one_way_out(pair: Pair) -> None:
    pair.target.add_filesystem(f"{ROOT}/tank/a")
    found = (await planned(pair))[0]
    shown = text([found])
    assert "is not a placeholder (0 B in it)" in shown
    assert "keep_copy: renames what is there on the receiver" in shown
    assert "destroys nothing" in shown
    told = json.loads(json.dumps(found.to_json()))
    assert told["conflict"]["kind"] == "place is taken"
    assert [each["name"] for each in told["resolutions"]] == ["keep_copy"]
