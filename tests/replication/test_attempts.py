"""Whole runs between two hosts in memory."""

from __future__ import annotations

import json

import pytest
import trio

from tests.replication.notation import path
from tests.replication.pair import MIB, ROOT, Pair, the
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.errors import DatasetBusy, NoSpace, TransportError
from zrepl_trio.replication.policy import InitialReplication, ReplicationOptions
from zrepl_trio.replication.report import (
    AttemptState,
    BlockedOn,
    FilesystemState,
    Outcome,
)
from zrepl_trio.zfs.argv import PLACEHOLDER, SOURCE_GUID

RESUMABILITY, INCREMENTAL, NOTHING = GuaranteeKind
ONCE = ReplicationOptions(attempts=1)


def cursor(guid: int, job: str = "src") -> str:
    return f"#zrepl_CURSOR_G_{guid:016x}_J_{job}"


def tentative(guid: int) -> str:
    return f"#zrepl_CURSORTENTATIVE__G_{guid:016x}_J_src"


LAST = "zrepl_last_received_J_dst"
STEP = "zrepl_STEP_J_src"


class TestStepByStep:
    async def test_full_then_incremental(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        first = await pair.snapshot("tank/a", "1", MIB) if pair.fill("tank/a") else None
        assert first is not None
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        assert pair.same("tank/a", "1")
        assert [s.from_ for s in the(report, "tank/a").steps] == [""]
        assert await pair.marks("tank/a") == {cursor(first.guid)}
        assert await pair.kept("tank/a") == {f"@1={LAST}"}
        await pair.snapshot("tank/a", "2", 3000)
        third = await pair.snapshot("tank/a", "3", 3000)
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        assert await pair.received("tank/a") == ["1", "2", "3"]
        assert pair.same("tank/a", "3")
        assert await pair.marks("tank/a") == {cursor(third.guid)}
        assert await pair.kept("tank/a") == {f"@3={LAST}"}
        steps = the(report, "tank/a").steps
        assert [(s.from_, s.to) for s in steps] == [("@1", "@2"), ("@2", "@3")]
        assert all(3000 <= s.replicated < 10_000 for s in steps)

    async def test_a_run_with_nothing_to_do(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a")
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        pair.source.calls.clear()
        pair.target.calls.clear()
        await pair.settled()
        # three processes on either side at most, however many filesystems there are
        assert pair.source.calls == ["datasets", "versions tank/a"]
        assert pair.target.calls == [f"datasets {ROOT}", f"versions {ROOT}/tank/a"]

    async def test_planning_many_filesystems_takes_few_calls(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for number in range(20):
            pair.fill(f"tank/f{number:02}", 10)
            await pair.snapshot(f"tank/f{number:02}", "1")
        pair.source.add_filesystem("tank/other")
        await pair.run(options=ReplicationOptions(steps=3))
        pair.source.calls.clear()
        pair.target.calls.clear()
        await pair.run(sender=pair.sender)
        assert [c.split()[0] for c in pair.source.calls] == ["datasets", "versions_below"]
        assert [c.split()[0] for c in pair.target.calls] == ["datasets", "versions_below"]

    async def test_the_source_guid_is_kept_from_the_first_receive_on(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a")
        await pair.snapshot("tank/a", "1")
        pair.cable.cut_after = 100_000
        await pair.run(options=ONCE)
        dataset = await pair.source.dataset(path("tank/a"))
        replica = await pair.target.dataset(pair.local("tank/a"))
        assert dataset is not None
        assert replica is not None
        assert replica.resume_token is not None
        assert replica.source_guid == dataset.guid
        # a property that an interrupted receive lost comes back with the resumed one
        await pair.target.set_properties(replica.path, {SOURCE_GUID: "-"})
        await pair.settled()
        replica = await pair.target.dataset(pair.local("tank/a"))
        assert replica is not None
        assert replica.source_guid == dataset.guid
        (listed,) = [f for f in await pair.receiver.list_filesystems() if f.path == "tank/a"]
        assert listed.dataset_guid == dataset.guid

    @pytest.mark.parametrize(
        ("initial", "expected"),
        [
            (InitialReplication.MOST_RECENT, ["3"]),
            (InitialReplication.ALL, ["1", "2", "3"]),
        ],
    )
    async def test_initial_replication(
        self, initial: InitialReplication, expected: list[str], autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        for name in "123":
            await pair.snapshot("tank/a", name, 100)
        await pair.run(options=ReplicationOptions(initial=initial))
        assert await pair.received("tank/a") == expected

    async def test_the_oldest_target_goes_first_across_filesystems(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        for name in ("tank/a", "tank/b"):
            pair.fill(name, 100)
        for snapshot in "12":
            for name in ("tank/b", "tank/a"):
                await pair.snapshot(name, snapshot, 10)
        await pair.run(options=ReplicationOptions(initial=InitialReplication.ALL))
        sends = [call for call in pair.cable.calls if call.startswith("send tank")]
        assert sends == ["send tank/b", "send tank/a", "send tank/b", "send tank/a"]


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


class TestResume:
    @pytest.mark.parametrize("incremental", [False, True])
    async def test_received_bytes_are_not_sent_again(
        self, incremental: bool, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "0")
        if incremental:
            await pair.settled()
        size = 8 * MIB
        await pair.snapshot("tank/a", "1", size)
        pair.cable.cut_after = size // 2
        report = await pair.run(options=ONCE)
        assert report.outcome is Outcome.FILESYSTEMS_FAILED
        assert "the link broke" in report.error
        assert "the next run resumes it" in report.error
        assert pair.cable.moved == size // 2
        # the step is protected for as long as it may be resumed
        assert f"@1={STEP}" in await pair.marks("tank/a")
        pair.cable.moved = 0
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        # emulated streams resume between records of 256 KiB
        assert size // 2 <= pair.cable.moved <= size // 2 + 300_000
        (step,) = the(report, "tank/a").steps
        assert step.resumed
        assert step.replicated == pair.cable.moved
        assert pair.same("tank/a", "1")
        assert STEP not in str(await pair.marks("tank/a"))

    async def test_a_cut_is_mended_within_the_run(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a", 2 * MIB)
        await pair.snapshot("tank/a", "1")
        pair.cable.cut_after = MIB
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        assert [a.state for a in report.attempts] == [
            AttemptState.FILESYSTEM_ERROR,
            AttemptState.DONE,
        ]
        assert pair.cable.moved < 2 * MIB + 400_000
        assert pair.same("tank/a", "1")

    async def test_the_last_planned_step_is_not_dropped_by_a_second_attempt(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        for name in "23":
            await pair.snapshot("tank/a", name, MIB)
        pair.cable.cut_after = MIB // 2
        late: list[str] = []

        async def take_another(call: str, _dataset: str) -> None:
            # a snapshot that appears between the attempts is the next run's
            if call == "datasets" and late == ["first"]:
                late.append("taken")
                await pair.source.snapshot(path("tank/a"), "late")
            elif call == "datasets":
                late.append("first")

        pair.source.before = take_another
        report = await pair.run()
        pair.source.before = None
        assert report.outcome is Outcome.DONE
        assert len(report.attempts) == 2
        assert await pair.received("tank/a") == ["1", "2", "3"]
        await pair.settled()
        assert await pair.received("tank/a") == ["1", "2", "3", "late"]

    async def test_a_step_whose_snapshot_is_gone_starts_afresh(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        await pair.settled()
        await pair.snapshot("tank/a", "2", 2 * MIB)
        pair.cable.cut_after = MIB
        await pair.run(options=ONCE)
        await pair.lose("tank/a", "2")
        await pair.snapshot("tank/a", "3", 10)
        report = await pair.run()
        assert report.outcome is Outcome.DONE
        assert "no longer has the snapshot @2" in the(report, "tank/a").note
        assert await pair.received("tank/a") == ["1", "3"]
        replica = await pair.target.dataset(pair.local("tank/a"))
        assert replica is not None
        assert replica.resume_token is None

    async def test_an_initial_step_whose_snapshot_is_gone_starts_afresh(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 2 * MIB)
        await pair.snapshot("tank/a", "1")
        pair.cable.cut_after = MIB
        await pair.run(options=ONCE)
        await pair.lose("tank/a", "1")
        await pair.snapshot("tank/a", "2", 10)
        report = await pair.run()
        assert report.outcome is Outcome.DONE, report.error
        assert await pair.received("tank/a") == ["2"]
        assert pair.same("tank/a", "2")

    async def test_a_token_the_sender_rejects_is_given_up_in_the_next_attempt(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a", 2 * MIB)
        await pair.snapshot("tank/a", "1")
        pair.cable.cut_after = MIB
        await pair.run(options=ONCE)
        # a source whose options changed no longer sends what the token asks for
        decode = pair.source.decode_token

        async def as_raw(token: str) -> object:
            decoded = await decode(token)
            return type(decoded)(to_name="tank/elsewhere@1", to_guid=decoded.to_guid)

        setattr(pair.source, "decode_token", as_raw)  # noqa: B010
        report = await pair.run()
        assert report.outcome is Outcome.DONE, report.error
        first, second = report.attempts
        assert first.failed[0].step_error is not None
        assert "resume token does not fit" in first.failed[0].step_error.text
        assert not second.filesystems[0].steps[0].resumed
        assert pair.same("tank/a", "1")


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
            if call == "versions" and dataset == "tank/a":
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


class TestReport:
    async def test_reports_have_zrepls_shape(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a", 4 * MIB)
        await pair.snapshot("tank/a", "1")
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

    async def test_states_and_bytes_are_published_as_they_come(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
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


class TestPlaceholders:
    async def test_parents_are_made_and_later_filled(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair(filesystems={"tank/a/b<": True})
        pair.fill("tank/a/b/c", 1000)
        await pair.snapshot("tank/a/b/c", "1")
        await pair.run()
        for name in ("tank", "tank/a", "tank/a/b"):
            dataset = await pair.target.dataset(pair.local(name))
            assert dataset is not None
            assert dataset.is_placeholder
            values = await pair.target.properties(dataset.path, ["mountpoint"])
            assert values["mountpoint"].value == "none"
        await pair.snapshot("tank/a/b", "1", 1000)
        # somebody took recursive snapshots of the backup pool meanwhile
        await pair.target.snapshot(pair.local("tank/a/b"), "recursive")
        await pair.settled()
        assert pair.same("tank/a/b", "1")
        assert pair.same("tank/a/b/c", "1")
        dataset = await pair.target.dataset(pair.local("tank/a/b"))
        assert dataset is not None
        assert not dataset.is_placeholder
        values = await pair.target.properties(dataset.path, [PLACEHOLDER])
        assert values[PLACEHOLDER].value == "off"

    async def test_a_cut_over_a_placeholder_resumes(self, autojump_clock: trio.abc.Clock) -> None:
        pair = Pair()
        pair.fill("tank/a/b", 1000)
        await pair.snapshot("tank/a/b", "1")
        await pair.run(options=ONCE)
        await pair.snapshot("tank/a", "1", 4 * MIB)
        pair.cable.moved = 0
        pair.cable.cut_after = 2 * MIB
        await pair.run(options=ONCE)
        report = await pair.run()
        assert report.outcome is Outcome.DONE, report.error
        assert the(report, "tank/a").steps[0].resumed
        assert pair.cable.moved < 4 * MIB + 400_000
        assert pair.same("tank/a", "1")
        dataset = await pair.target.dataset(pair.local("tank/a"))
        assert dataset is not None
        assert not dataset.is_placeholder

    async def test_a_resume_that_zrepl_left_over_a_placeholder_tells_the_way_out(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a/b", 1000)
        await pair.snapshot("tank/a/b", "1")
        await pair.run(options=ONCE)
        await pair.snapshot("tank/a", "1", 4 * MIB)
        pair.cable.cut_after = 2 * MIB
        await pair.run(options=ONCE)
        local = pair.local("tank/a")
        await pair.target.set_properties(local, {PLACEHOLDER: "off"})
        report = await pair.run(options=ONCE)
        assert "mark it again with `zfs set zrepl:placeholder=on`" in report.error
        await pair.target.set_properties(local, {PLACEHOLDER: "on"})
        report = await pair.run(options=ONCE)
        assert report.outcome is Outcome.DONE, report.error
        assert the(report, "tank/a").steps[0].resumed
        assert pair.same("tank/a", "1")

    async def test_a_placeholder_with_held_snapshots_is_left_alone(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair()
        pair.fill("tank/a/b", 1000)
        await pair.snapshot("tank/a/b", "1")
        await pair.run(options=ONCE)
        await pair.target.snapshot(pair.local("tank/a"), "x")
        await pair.target.hold(pair.local("tank/a"), ["x"], "mine")
        await pair.snapshot("tank/a", "1", 1000)
        report = await pair.run(options=ONCE)
        assert "its snapshots are held: x" in report.error
        assert await pair.received("tank/a") == ["x"]

    async def test_unspecified_encryption_fails_the_first_step_by_name(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        pair = Pair(placeholder=PlaceholderEncryption.UNSPECIFIED)
        pair.fill("tank/a", 1000)
        await pair.snapshot("tank/a", "1")
        report = await pair.run()
        assert "set `recv.placeholder.encryption` to `inherit`" in report.error
        assert [d.path for d in await pair.target.datasets()] == ["backup", ROOT]


@pytest.mark.slow
class TestCancel:
    @pytest.mark.parametrize(
        "protection",
        [
            Protection(),
            Protection(initial=INCREMENTAL, incremental=INCREMENTAL),
            Protection(initial=NOTHING, incremental=NOTHING),
        ],
        ids=["resumability", "incremental", "nothing"],
    )
    async def test_at_every_call_then_the_next_run_converges(
        self, protection: Protection, autojump_clock: trio.abc.Clock
    ) -> None:
        options = ReplicationOptions(protection=protection)
        points = 0
        while True:
            pair = Pair()
            pair.fill("tank/a", 1000)
            pair.fill("tank/a/b", 1000)
            for name in ("tank/a", "tank/a/b"):
                await pair.snapshot(name, "1")
            await pair.run(sender=pair.sender, options=options)
            for name in ("tank/a", "tank/a/b"):
                await pair.snapshot(name, "2", 300_000)
            if not await _cancelled_at(pair, points, options):
                break
            points += 1
            # no base is ever lost: whatever both had they still have
            for name in ("tank/a", "tank/a/b"):
                assert "1" in await pair.received(name)
            for name in ("tank/a", "tank/a/b"):
                await pair.snapshot(name, "3", 1000)
            report = await pair.run(sender=pair.sender, options=options)
            assert report.outcome is Outcome.DONE, (points, report.error)
            for name in ("tank/a", "tank/a/b"):
                assert pair.same(name, "3")
                listed = await pair.source.versions(path(name))
                three = next(v for v in listed if v.name == "3")
                if protection.initial is NOTHING:
                    assert await pair.marks(name) == set()
                    assert await pair.kept(name) == set()
                else:
                    assert await pair.marks(name) == {cursor(three.guid)}
                    assert await pair.kept(name) == {f"@3={LAST}"}
        assert points > 15  # calls of zfs in it

    async def test_at_every_checkpoint_of_a_first_replication(
        self, autojump_clock: trio.abc.Clock
    ) -> None:
        points = 0
        while True:
            pair = Pair()
            pair.fill("tank/a/b", 600_000)
            await pair.snapshot("tank/a/b", "1")
            pair.source.write("tank/a", {"x": b"y"})
            await pair.snapshot("tank/a", "1")
            finished = await _cancelled_by_deadline(pair, points)
            report = await pair.run(sender=pair.sender)
            assert report.outcome is Outcome.DONE, (points, report.error)
            for name in ("tank/a", "tank/a/b"):
                assert pair.same(name, "1")
                dataset = await pair.target.dataset(pair.local(name))
                assert dataset is not None
                assert not dataset.is_placeholder
                assert dataset.resume_token is None
            if finished:
                break
            points += 1
        assert points > 60


async def _cancelled_at(pair: Pair, point: int, options: ReplicationOptions) -> bool:
    """Run and cancel before the call number `point` of either zfs; False: it has fewer."""
    count = 0
    reached = False
    with trio.CancelScope() as scope:

        async def cancel(_call: str, _dataset: str) -> None:
            nonlocal count, reached
            if count == point:
                reached = True
                scope.cancel()
                await trio.lowlevel.checkpoint()
            count += 1

        pair.source.before = pair.target.before = cancel
        await pair.run(sender=pair.sender, options=options)
    pair.source.before = pair.target.before = None
    return reached


class _Countdown(trio.abc.Instrument):
    """Cancels a scope after so many task steps, wherever the tasks then are."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self._left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def _cancelled_by_deadline(pair: Pair, point: int) -> bool:
    """Run and cancel after some scheduler steps; True when it finished before."""
    with trio.CancelScope() as scope:
        instrument = _Countdown(scope, point + 1)
        trio.lowlevel.add_instrument(instrument)
        try:
            await pair.run(sender=pair.sender)
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancelled_caught
