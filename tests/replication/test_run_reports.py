"""What a run tells of itself, while it lasts and when it is over."""

from __future__ import annotations

import json

import trio

from tests.replication.pair import MIB, Pair
from zrepl_trio.replication.execute import ESTIMATED_AFTER_S
from zrepl_trio.replication.report import (
    AttemptState,
    BlockedOn,
    Outcome,
)


async def test_reports_have_zrepls_shape(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    pair.fill("tank/a", 4 * MIB)
    await pair.snapshot("tank/a", "1")

    async def slow(call: str, _dataset: str) -> None:
        if call == "open_send":
            await trio.sleep(2 * ESTIMATED_AFTER_S)

    pair.source.before = slow
    report = await pair.run()
    shown = json.loads(json.dumps(report.to_json()))
    (attempt,) = shown["Attempts"]
    assert attempt["State"] == "done"
    assert attempt["FinishAt"] > attempt["StartAt"]
    (filesystem,) = attempt["Filesystems"]
    info = filesystem["Steps"][0]["Info"]
    assert filesystem == {
        "Info": {"Name": "tank/a"},
        "State": "done",
        "BlockedOn": "nothing",
        "PlanError": None,
        "StepError": None,
        "CurrentStep": 1,
        "Steps": [
            {
                "Info": {
                    "From": "",
                    "To": "@1",
                    "Resumed": False,
                    "BytesExpected": info["BytesExpected"],
                    "BytesReplicated": pair.cable.moved,
                }
            }
        ],
    }
    assert info["BytesExpected"] > 4 * MIB
    assert shown["WaitReconnectSince"] == "0001-01-01T00:00:00Z"
    assert shown["WaitReconnectError"] is None
    assert shown["FinishAt"].endswith("Z")


async def test_a_run_that_is_over_soon_asks_for_no_sizes(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    for number in range(3):
        pair.fill(f"tank/{number}", MIB)
        await pair.snapshot(f"tank/{number}", "1")
    assert (await pair.run()).outcome is Outcome.DONE
    assert not [call for call in pair.source.calls if call.startswith("send_size")]


async def test_states_and_bytes_are_published_as_they_come(autojump_clock: trio.abc.Clock) -> None:
    pair = Pair()
    for name in ("tank/a", "tank/a/b"):
        pair.fill(name, 4 * MIB)
        await pair.snapshot(name, "1")

    async def slow(call: str, _dataset: str) -> None:
        if call == "open_send":
            await trio.sleep(1)

    pair.source.before = slow
    await pair.run()
    attempts = [r.last for r in pair.reports if r.last is not None]
    assert attempts[0].state is AttemptState.PLANNING
    assert attempts[-1].state is AttemptState.DONE
    fan_out = [a for a in attempts if a.state is AttemptState.FAN_OUT]
    waits = {fs.blocked_on for a in fan_out for fs in a.filesystems if fs.name == "tank/a/b"}
    assert {BlockedOn.PARENT, BlockedOn.NOTHING} <= waits
    counts = [a.filesystems[0].replicated for a in fan_out]
    assert counts == sorted(counts)
    assert any(0 < count < 4 * MIB for count in counts)
