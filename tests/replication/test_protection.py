"""What holds and bookmarks there are during a run and after it, for each kind of protection."""

from __future__ import annotations

import pytest
import trio

from tests.replication.marks import LAST, NOTHING, STEP, cursor, tentative
from tests.replication.notation import path
from tests.replication.pair import Pair, the
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import (
    Outcome,
)


class TestProtection:
    @pytest.mark.parametrize("kind", list(GuaranteeKind))
    async def test_state_during_and_after_each_step(
        self, kind: GuaranteeKind, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        one = await pair.snapshot("tank/a", "1")
        options = ReplicationOptions(protection=Protection(initial=kind, incremental=kind))
        during: list[set[str]] = []

        async def look(call: str, _dataset: str) -> None:
            if call == "open_send":
                before, pair.source.before = pair.source.before, None
                during.append(await pair.marks("tank/a"))
                pair.source.before = before

        pair.source.before = look
        await pair.run(options=options)
        two = await pair.snapshot("tank/a", "2", 100)
        await pair.run(options=options)
        pair.source.before = None
        match kind:
            case GuaranteeKind.RESUMABILITY:
                assert during == [
                    {f"@1={STEP}"},
                    {f"@1={STEP}", f"@2={STEP}", cursor(one.guid)},
                ]
            case GuaranteeKind.INCREMENTAL:
                assert during == [
                    {tentative(one.guid)},
                    {tentative(two.guid), cursor(one.guid)},
                ]
            case GuaranteeKind.NOTHING:
                assert during == [set(), set()]
        if kind is NOTHING:
            assert await pair.marks("tank/a") == set()
            assert await pair.kept("tank/a") == set()
        else:
            assert await pair.marks("tank/a") == {cursor(two.guid)}
            assert await pair.kept("tank/a") == {f"@2={LAST}"}

    async def test_nothing_drops_what_earlier_kinds_left(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        await pair.snapshot("tank/a", "2", 10)
        nothing = Protection(initial=NOTHING, incremental=NOTHING)
        await pair.run(options=ReplicationOptions(protection=nothing))
        assert await pair.marks("tank/a") == set()
        assert await pair.kept("tank/a") == set()

    @pytest.mark.parametrize("kind", list(GuaranteeKind))
    async def test_other_jobs_marks_are_never_touched(
        self, kind: GuaranteeKind, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        one = await pair.snapshot("tank/a", "1")
        foreign = {
            cursor(one.guid, "srcx"),
            "#zrepl_replication_cursor",
            "@1=zrepl_STEP_J_srcx",
            "@1=mine",
        }
        for mark in foreign:
            if mark[0] == "#":
                await pair.source.bookmark(path("tank/a"), one, mark[1:])
            else:
                await pair.source.hold(path("tank/a"), ["1"], mark[3:])
        protection = Protection(initial=kind, incremental=kind)
        await pair.run(options=ReplicationOptions(protection=protection))
        await pair.snapshot("tank/a", "2", 10)
        await pair.run(options=ReplicationOptions(protection=protection))
        assert foreign <= await pair.marks("tank/a")

    async def test_the_cursor_serves_when_the_snapshot_is_pruned(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        one = await pair.snapshot("tank/a", "1")
        await pair.settled()
        await pair.source.destroy_snapshots(path("tank/a"), ["1"])
        await pair.snapshot("tank/a", "2", 10)
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        (step,) = the(report, "tank/a").steps
        assert step.from_ == cursor(one.guid)
        assert pair.same("tank/a", "2")
