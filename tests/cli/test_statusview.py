from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from zrepl_trio.cli.statusview import status_lines
from zrepl_trio.control.api import Status
from zrepl_trio.control.documents import status_document
from zrepl_trio.jobs.base import Invocation, JobStatus, JobType, Outcome, Phase
from zrepl_trio.jobs.tracked import ActiveChild
from zrepl_trio.process import StuckChild
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    BlockedOn,
    FilesystemReport,
    FilesystemState,
    Report,
    StepReport,
    TimedError,
)
from zrepl_trio.snapshots.report import FilesystemState as TakenState
from zrepl_trio.snapshots.report import SnapperReport, SnapperState, TakenSnapshot
from zrepl_trio.zfs.names import DatasetPath

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
MIB = 1024**2


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def shown(
    *jobs: JobStatus, stuck: tuple[StuckChild, ...] = (), active: tuple[ActiveChild, ...] = ()
) -> str:
    document = status_document(jobs, active=active, stuck=stuck, version="1", started=ago(60))
    lines = status_lines(Status.model_validate(document), NOW)
    return "\n".join(line.plain.rstrip() for line in lines)


def pull(**changes: object) -> JobStatus:
    fields: dict[str, object] = {"name": "pull", "type": JobType.PULL, "phase": Phase.WAITING}
    return JobStatus(**{**fields, **changes})  # type: ignore[arg-type]


def run(outcome: Outcome | None = Outcome.DONE, error: str = "") -> Invocation:
    finished = None if outcome is None else ago(10)
    return Invocation(number=3, started=ago(20), finished=finished, outcome=outcome, error=error)


def report(*filesystems: FilesystemReport, state: AttemptState, finish: datetime | None) -> Report:
    attempt = AttemptReport(state=state, start=ago(20), finish=finish, filesystems=filesystems)
    return Report(start=ago(20), attempts=(attempt,))


def test_a_waiting_pull_tells_its_last_and_next_run() -> None:
    filesystem = FilesystemReport(
        name="tank/a",
        state=FilesystemState.DONE,
        current=2,
        steps=(
            StepReport(from_="", to="@1", expected=4 * MIB, replicated=4 * MIB),
            StepReport(from_="@1", to="@2", expected=MIB, replicated=MIB),
        ),
    )
    text = shown(
        pull(
            invocation=run(),
            next_wakeup=NOW + timedelta(seconds=245),
            replication=report(filesystem, state=AttemptState.DONE, finish=ago(10)),
        )
    )
    assert text.splitlines() == [
        "pull  pull  waiting, next run in 4m 05s",
        "  run 3: all done, 10.0 s ago, took 10.0 s",
        "    tank/a  done (step 2/2, 5.0 MiB)",
    ]


def test_a_running_pull_shows_progress_rate_and_what_comes_next() -> None:
    filesystem = FilesystemReport(
        name="tank/a",
        state=FilesystemState.STEPPING,
        current=1,
        steps=(
            StepReport(from_="", to="@1", expected=30 * MIB, replicated=30 * MIB),
            StepReport(from_="@1", to="@2", resumed=True, expected=30 * MIB, replicated=10 * MIB),
        ),
    )
    waiting = FilesystemReport(
        name="tank/a/long", state=FilesystemState.PLANNING, blocked_on=BlockedOn.PLAN_QUEUE
    )
    text = shown(
        pull(
            phase=Phase.RUNNING,
            invocation=run(None),
            replication=report(filesystem, waiting, state=AttemptState.FAN_OUT, finish=None),
        )
    )
    assert "run 3: under way for 20.0 s" in text
    assert "67% 40.0 MiB / 60.0 MiB @ 2.0 MiB/s, 10.0 s left" in text
    assert "  * tank/a       stepping (step 2/2, 40.0 MiB/60.0 MiB)" in text
    assert "next: @1 => @2 (resumed)" in text
    assert "    tank/a/long  planning waits: plan-queue" in text


def test_errors_are_shown_in_full_once_and_escaped() -> None:
    error = "the two sides diverged:\n  sender: @1 @2\n  receiver: @1 @x\x1b[2J"
    filesystem = FilesystemReport(
        name="tank/a", state=FilesystemState.PLANNING_ERROR, plan_error=TimedError(error, NOW)
    )
    text = shown(
        pull(
            invocation=run(Outcome.FILESYSTEM_ERRORS, f"tank/a: {error}"),
            replication=report(filesystem, state=AttemptState.FILESYSTEM_ERROR, finish=ago(10)),
        )
    )
    assert text.count("the two sides diverged:") == 1
    assert r"        receiver: @1 @x\x1b[2J" in text
    assert "\x1b" not in text
    assert "some filesystem failed" in text


def test_a_link_that_cannot_be_made_carries_sshs_words() -> None:
    text = shown(pull(invocation=run(Outcome.CONNECT_FAILED, 'ssh: unsupported option "on"')))
    assert "could not connect" in text
    assert '    ssh: unsupported option "on"' in text


def test_what_an_earlier_run_replicated_is_not_taken_for_the_last_one_s() -> None:
    filesystem = FilesystemReport(name="tank/a", state=FilesystemState.DONE)
    before = report(filesystem, state=AttemptState.DONE, finish=ago(50))
    text = shown(
        pull(
            invocation=run(Outcome.CONNECT_FAILED, "ssh: no"),
            replication=replace(before, start=ago(60), attempts=before.attempts * 2),
        )
    )
    assert text.splitlines()[1:] == [
        "  run 3: could not connect, 10.0 s ago, took 10.0 s",
        "    ssh: no",
        "  the last run that got as far as replicating:",
        "    tank/a  done",
    ]


def test_a_failed_job_says_why_and_when_it_is_tried_again() -> None:
    text = shown(
        JobStatus(
            name="source",
            type=JobType.SOURCE,
            phase=Phase.FAILED,
            error="directory is not private",
            failures=3,
            restart_at=NOW + timedelta(seconds=4),
        )
    )
    assert text.splitlines()[0] == "source  source  failed, tried again in 4.0 s"
    assert "    directory is not private" in text


@pytest.mark.parametrize(("count", "words"), [(0, "0 connections"), (1, "1 connection")])
def test_a_source_counts_its_connections(count: int, words: str) -> None:
    job = JobStatus(name="s", type=JobType.SOURCE, phase=Phase.SERVING, connections=count)
    assert shown(job) == f"s  source  serving, {words}"


def test_a_job_without_an_interval_says_what_wakes_it() -> None:
    assert "runs on `signal wakeup` only" in shown(pull())


def test_a_wait_for_the_link_is_told() -> None:
    waiting = Report(
        start=ago(20),
        wait_since=ago(5),
        wait_until=NOW + timedelta(seconds=300),
        wait_error=TimedError("connection lost", ago(5)),
    )
    text = shown(pull(phase=Phase.RUNNING, invocation=run(None), replication=waiting))
    assert "giving up in 5m 00s" in text
    assert "connection lost" in text
    ended = run(Outcome.CONNECT_FAILED, error="no route to host")
    text = shown(pull(invocation=ended, replication=waiting))
    assert "no route to host" in text
    assert "the link is lost" not in text


def test_nothing_offered_and_no_jobs_are_said() -> None:
    empty = report(state=AttemptState.DONE, finish=ago(10))
    assert "offers no filesystems" in shown(pull(invocation=run(), replication=empty))
    assert "no jobs" in shown()


def test_stuck_children_are_listed() -> None:
    text = shown(pull(), stuck=(StuckChild(pid=7, argv=("zfs", "recv", "x"), dataset="tank/a"),))
    assert "pid 7 on tank/a: zfs recv x" in text


def test_commands_under_way_are_listed() -> None:
    command = ActiveChild(argv=("zfs", "recv", "backup/r"), started=ago(2))
    assert "Running now:\n  zfs recv backup/r  (2.0 s)" in shown(pull(), active=(command,))


def test_what_a_snapshotter_does_is_told() -> None:
    def taken(name: str, error: str = "", *, there: bool = True) -> TakenSnapshot:
        return TakenSnapshot(
            path=DatasetPath.parse(name),
            state=TakenState.ERROR if error else TakenState.DONE,
            name="x",
            done=ago(60),
            error=error,
            taken=there,
        )

    snapshots = SnapperReport(
        kind="periodic",
        state=SnapperState.ERROR_WAIT,
        next_at=NOW + timedelta(minutes=9),
        progress=(
            taken("tank/a"),
            taken("tank/b", "tank/b: out of space", there=False),
            taken("tank/d", "tank/d: pre_snapshot: /x cannot be run; the snapshot was taken"),
            TakenSnapshot(path=DatasetPath.parse("tank/c"), state=TakenState.DONE, unchanged=True),
        ),
    )
    snap = JobStatus(name="s", type=JobType.SNAP, phase=Phase.WAITING, snapshots=snapshots)
    text = shown(snap)
    assert "snapshots: next in 9m 00s; 2 taken 1m 00s ago; 1 unchanged" in text
    assert "tank/b: out of space" in text
    assert "snapshots: under way; 2 taken" in shown(
        replace(snap, snapshots=replace(snapshots, next_at=None))
    )
    for phase in (Phase.FAILED, Phase.STOPPED):
        ended = replace(snapshots, state=SnapperState.STOPPED, next_at=None)
        assert "snapshots: stopped; 2 taken" in shown(replace(snap, phase=phase, snapshots=ended))
    manual = replace(snap, snapshots=SnapperReport(kind="manual"))
    assert "s  snap  waiting, takes no snapshots" in shown(manual)
    push = replace(snap, type=JobType.PUSH, next_wakeup=None)
    assert "push  waiting, runs when the snapshots are taken" in shown(push)
