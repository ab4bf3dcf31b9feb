"""Attempts in which zfs, the peer or the link fails."""

from __future__ import annotations

import pytest
import trio

from tests.replication.marks import LAST, ONCE, STEP, cursor
from tests.replication.pair import MIB, ROOT, Pair, the
from zrepl_trio.errors import DatasetBusy, NoSpace, TransportError
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import (
    AttemptState,
    FilesystemState,
    Outcome,
)


class TestFailures:
    async def test_a_failed_send_is_never_a_clean_end(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a", 2 * MIB)
        await pair.snapshot("tank/a", "1")
        pair.source.send_limit["tank/a"] = MIB
        report = await pair.run(sender=pair.sender, options=ONCE)
        assert report.outcome is Outcome.FILESYSTEMS_FAILED
        assert "zfs send of tank/a@1 failed" in report.error
        assert await pair.received("tank/a") == []
        assert await pair.kept("tank/a") == set()
        assert await pair.marks("tank/a") == {f"@1={STEP}"}
        await pair.settled()
        assert pair.same("tank/a", "1")

    async def test_a_send_that_cannot_start_is_the_cause_reported(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", MIB)
        await pair.snapshot("tank/a", "1")

        async def vanish(call: str, _dataset: str) -> None:
            if call == "open_send":
                await pair.lose("tank/a", "1")

        pair.source.before = vanish
        report = await pair.run(sender=pair.sender, options=ONCE)
        assert "zfs send of tank/a@1 failed" in report.error
        assert "does not exist" in report.error

    async def test_one_filesystems_failure_stops_no_other(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for name in ("tank/a", "tank/b", "tank/c", "tank/d"):
            pair.fill(name, 1000)
            await pair.snapshot(name, "1")
        await pair.settled()
        # a diverges, b has no versions any more, c's send breaks, d is fine
        await pair.target.snapshot(pair.local("tank/a"), "own")
        pair.source.world.destroy("tank/b", recursive=True)
        pair.fill("tank/b")
        for name in ("tank/a", "tank/c", "tank/d"):
            await pair.snapshot(name, "2", 1000)
        pair.source.send_limit["tank/c"] = 10
        report = await pair.run(sender=pair.sender, options=ONCE)
        assert report.outcome is Outcome.FILESYSTEMS_FAILED
        assert the(report, "tank/a").state is FilesystemState.PLANNING_ERROR
        assert "the receiver has snapshots of its own" in report.error
        assert the(report, "tank/b").state is FilesystemState.PLANNING_ERROR
        assert "does not have any versions" in report.error
        assert the(report, "tank/c").state is FilesystemState.STEP_ERROR
        assert the(report, "tank/d").state is FilesystemState.DONE
        assert pair.same("tank/d", "2")

    async def test_permanent_errors_end_the_run_at_once(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        await pair.target.snapshot(pair.local("tank/a"), "own")
        await pair.snapshot("tank/a", "2", 10)
        report = await pair.run()
        assert len(report.attempts) == 1
        assert report.finish is not None
        assert await pair.received("tank/a") == ["1", "own"]

    async def test_no_space_is_named_and_what_arrived_is_kept(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.target.world.pools["backup"].capacity = MIB
        pair.fill("tank/a", 4 * MIB)
        await pair.snapshot("tank/a", "1")
        report = await pair.run()
        assert report.outcome is Outcome.FILESYSTEMS_FAILED
        assert "out of space" in report.error
        assert "free space" in report.error
        assert len(report.attempts) == 1
        pair.target.world.pools["backup"].capacity = 64 * MIB
        moved = pair.cable.moved
        report = await pair.run()
        assert report.outcome is Outcome.DONE, report.error
        assert the(report, "tank/a").steps[0].resumed
        assert pair.cable.moved < moved + 4 * MIB

    async def test_a_busy_dataset_is_tried_again(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        failures = [DatasetBusy("backup/sink/tank/a: busy")]

        async def busy(call: str, _dataset: str) -> None:
            if call == "open_receive" and failures:
                raise failures.pop()

        pair.target.before = busy
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        assert len(report.attempts) == 2

    async def test_a_child_of_a_failed_new_parent_says_why_it_was_not_tried(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for name in ("tank/a", "tank/a/b"):
            pair.fill(name, 1000)
            await pair.snapshot(name, "1")

        async def full(call: str, dataset: str) -> None:
            if call == "open_receive" and dataset.endswith("/a"):
                raise NoSpace("backup/sink/tank/a: out of space")

        pair.target.before = full
        report = await pair.run()
        child = the(report, "tank/a/b")
        assert child.step_error is not None
        assert child.step_error.text == "parent(s) failed during initial replication: [tank/a]"

    async def test_a_parent_without_snapshots_does_not_keep_its_children_back(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a/b", 1000)
        await pair.snapshot("tank/a/b", "1")
        report = await pair.run()
        assert the(report, "tank/a").state is FilesystemState.PLANNING_ERROR
        assert the(report, "tank/a/b").state is FilesystemState.DONE
        # later the parent takes the placeholder's place
        await pair.snapshot("tank/a", "1", 100)
        await pair.settled()
        assert pair.same("tank/a", "1")
        assert pair.same("tank/a/b", "1")

    async def test_listing_that_fails_for_one_filesystem_is_its_error(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for name in ("tank/a", "tank/b"):
            pair.fill(name, 1000)
            await pair.snapshot(name, "1")

        async def broken(call: str, dataset: str) -> None:
            if call == "versions_below" or (call == "versions" and dataset == "tank/a"):
                raise NoSpace("cannot list tank/a")

        pair.source.before = broken
        report = await pair.run()
        assert "the sender's versions cannot be listed: cannot list tank/a" in report.error
        assert the(report, "tank/b").state is FilesystemState.DONE

    async def test_a_missing_root_is_a_planning_error_with_the_mend(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        pair.target.world.destroy(ROOT, recursive=True)
        report = await pair.run()
        assert report.outcome is Outcome.PLANNING_FAILED
        assert "create it (`zfs create backup/sink`)" in report.error
        assert report.last is not None
        assert report.last.state is AttemptState.PLANNING_ERROR

    async def test_no_filesystems_is_done(self, autojump_clock: trio.abc.Clock) -> None:
        report = await Pair().run()
        assert report.outcome is Outcome.DONE


class TestLink:
    async def test_no_connection_waits_then_says_so(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.cable.down = True
        start = trio.current_time()
        report = await pair.run()
        assert report.outcome is Outcome.NOT_CONNECTED
        assert report.error == "the link is down"
        assert 600 <= trio.current_time() - start < 700
        assert report.wait_error is not None
        assert report.wait_since is not None
        assert report.wait_until is not None
        assert len(report.attempts) == 1

    async def test_without_a_wait_it_says_so_at_once(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.cable.down = True
        start = trio.current_time()
        report = await pair.run(options=ReplicationOptions(reconnect_s=0))
        assert report.outcome is Outcome.NOT_CONNECTED
        assert trio.current_time() == start

    async def test_a_link_that_comes_back_is_used(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        pair.cable.down = True
        async with trio.open_nursery() as nursery:

            async def mend() -> None:
                await trio.sleep(100)
                pair.cable.down = False

            nursery.start_soon(mend)
            report = await pair.run()
        assert report.outcome is Outcome.DONE
        assert [a.state for a in report.attempts] == [
            AttemptState.PLANNING_ERROR,
            AttemptState.DONE,
        ]
        assert report.wait_since is None

    async def test_when_the_link_is_gone_nothing_new_is_begun(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for number in range(5):
            pair.fill(f"tank/f{number}", MIB)
            await pair.snapshot(f"tank/f{number}", "1")

        async def cut(call: str, _dataset: str) -> None:
            if call == "open_send":
                pair.cable.down = True

        pair.source.before = cut
        report = await pair.run(options=ONCE)
        assert sum(call.startswith("send tank") for call in pair.cable.calls) == 1
        assert report.last is not None
        texts = [fs.step_error.text for fs in report.last.failed if fs.step_error]
        assert len(texts) == 5
        assert sum("not tried in this attempt" in text for text in texts) == 4

    async def test_one_stream_that_always_dies_starves_nobody(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for name in ("tank/a", "tank/b"):
            pair.fill(name, MIB)
            await pair.snapshot(name, "1")

        async def die(call: str, dataset: str) -> None:
            if call == "open_send" and dataset == "tank/a":
                raise TransportError("this stream dies")

        pair.source.before = die
        report = await pair.run()
        assert len(report.attempts) == 3
        assert report.outcome is Outcome.FILESYSTEMS_FAILED
        assert the(report, "tank/b").state is FilesystemState.DONE
        assert pair.same("tank/b", "1")

    async def test_a_lost_confirmation_is_repeated(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        one = await pair.snapshot("tank/a", "1")
        confirm = pair.sender.send_completed
        lost = [True]

        async def lossy(request: object) -> None:
            if lost.pop() if lost else False:
                raise TransportError("the link broke before the request arrived")
            await confirm(request)  # type: ignore[arg-type]

        setattr(pair.sender, "send_completed", lossy)  # noqa: B010
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        first = report.attempts[0].failed[0]
        assert first.step_error is not None
        assert first.step_error.text.startswith(
            "the receiver has it, but the sender could not be told: "
        )
        assert await pair.marks("tank/a") == {cursor(one.guid)}

    async def test_a_confirmation_that_is_refused_again_fails_its_filesystem(
        self, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        answers = [TransportError("the link broke"), NoSpace("no room for a bookmark")]

        async def refuse(_request: object) -> None:
            await trio.lowlevel.checkpoint()
            raise answers.pop(0)

        monkeypatch.setattr(pair.sender, "send_completed", refuse)
        report = await pair.run()
        assert len(report.attempts) == 2
        assert report.error == (
            "tank/a: the receiver has it, but the sender could not be told: no room for a bookmark"
        )

    async def test_an_answer_lost_after_the_confirmation_does_no_harm(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        two = await pair.snapshot("tank/a", "2", 100)
        pair.cable.lose.add("send_completed")
        report = await pair.run()
        assert report.outcome is Outcome.DONE, report.error
        assert await pair.marks("tank/a") == {cursor(two.guid)}

    async def test_a_confirmation_lost_for_good_is_cleaned_up_by_the_next_step(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        await pair.snapshot("tank/a", "2", 100)

        async def down(call: str, _dataset: str) -> None:
            if call == "properties_of":
                pair.cable.down = True

        pair.target.before = down
        await pair.run(options=ONCE)
        pair.target.before = None
        pair.cable.down = False
        assert await pair.received("tank/a") == ["1", "2"]
        assert f"@2={STEP}" in await pair.marks("tank/a")
        three = await pair.snapshot("tank/a", "3", 100)
        await pair.settled()
        assert await pair.marks("tank/a") == {cursor(three.guid)}
        assert await pair.kept("tank/a") == {f"@3={LAST}"}
