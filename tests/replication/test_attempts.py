"""Whole runs between two hosts in memory."""

from __future__ import annotations

import pytest
import trio

from tests.replication.marks import LAST, ONCE, STEP, cursor
from tests.replication.notation import path
from tests.replication.pair import MIB, ROOT, Pair, the
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.replication.policy import InitialReplication, ReplicationOptions
from zrepl_trio.replication.report import (
    AttemptState,
    Outcome,
)
from zrepl_trio.zfs.argv import PLACEHOLDER, SOURCE_GUID


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
        assert pair.source.calls == ["datasets_in tank", "versions tank/a"]
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
        assert [c.split()[0] for c in pair.source.calls] == ["datasets_in", "versions_below"]
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

    async def test_no_step_waits_for_a_side_that_takes_its_time_to_settle(
        self, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = Pair()
        for number in range(3):
            pair.fill(f"tank/{number}", 1000)
            await pair.snapshot(f"tank/{number}", "1")
        started: list[float] = []

        async def slow_first(call: str, _dataset: str) -> None:
            if call == "open_send":
                started.append(trio.current_time())
                # the second is still going when the first has settled
                await trio.sleep((0, 20, 0)[len(started) - 1])

        async def settle() -> None:
            settling.append(trio.current_time())
            await trio.sleep(50)

        settling: list[float] = []
        pair.source.before = slow_first
        monkeypatch.setattr(pair.sender, "settle", settle)
        began = trio.current_time()
        report = await pair.run(options=ReplicationOptions(steps=1))
        assert report.outcome is Outcome.DONE
        assert settling[0] - began == pytest.approx(5, abs=0.1)
        assert started[2] - began == pytest.approx(20, abs=0.1)


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
            if call.startswith("datasets") and late == ["first"]:
                late.append("taken")
                await pair.source.snapshot(path("tank/a"), "late")
            elif call.startswith("datasets"):
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
