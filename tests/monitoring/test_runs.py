from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from zrepl_trio.jobs.base import Invocation, Outcome
from zrepl_trio.monitoring.runs import RunTotals, StateTime
from zrepl_trio.replication.classify import ErrorClass
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    FilesystemReport,
    Report,
    StepReport,
    TimedError,
)

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def filesystem(name: str, moved: int, failed: ErrorClass | None = None) -> FilesystemReport:
    return FilesystemReport(
        name=name,
        steps=(StepReport(from_="", to="@1", replicated=moved),),
        step_error=TimedError("broken", NOON, failed) if failed else None,
    )


def report(
    start: datetime, *filesystems: FilesystemReport, state: AttemptState = AttemptState.FAN_OUT
) -> Report:
    attempt = AttemptReport(state=state, start=start, filesystems=filesystems)
    return Report(start=start, attempts=(attempt,))


def run(minute: int, outcome: Outcome) -> Invocation:
    return Invocation(number=1, started=at(minute), finished=at(minute + 1), outcome=outcome)


def test_bytes_and_errors_add_up_over_attempts_and_runs_and_never_twice() -> None:
    totals = RunTotals()
    first = report(at(0), filesystem("a", 10, ErrorClass.RETRY), filesystem("b", 1))
    second = replace(first, attempts=(*first.attempts, *report(at(1), filesystem("a", 5)).attempts))
    for picture in (first, first, second):
        totals.picture(picture, 0)
    assert totals.moved == {"a": 15, "b": 1}
    assert totals.errors == {
        ErrorClass.RETRY: 1,
        ErrorClass.RECONNECT: 0,
        ErrorClass.PERMANENT: 0,
    }
    # a run that was cancelled shows no end; the next one adds to it all the same
    totals.picture(report(at(5)), 0)
    totals.picture(report(at(5), filesystem("a", 100)), 0)
    assert totals.moved == {"a": 115, "b": 1}
    assert totals.errors[ErrorClass.RETRY] == 1


def test_the_time_of_a_state_is_told_when_it_is_over() -> None:
    totals = RunTotals()
    told = [
        totals.picture(picture, now_s)
        for now_s, picture in [
            (0, Report(start=at(0))),
            (1, report(at(0), state=AttemptState.PLANNING)),
            (4, report(at(0), filesystem("a", 0))),
            (5, report(at(0), filesystem("a", 7))),
            (14, report(at(0), filesystem("a", 9), state=AttemptState.DONE)),
            (100, report(at(9), state=AttemptState.PLANNING)),
            # cancelled while it planned: that took nobody knows how long
            (200, report(at(10), state=AttemptState.PLANNING)),
            (201, report(at(10), state=AttemptState.PLANNING_ERROR)),
        ]
    ]
    assert [each for each in told if each] == [
        StateTime("planning", 3),
        StateTime("fan-out-filesystems", 10),
        StateTime("planning", 1),
    ]


@pytest.mark.parametrize(
    ("outcome", "failed", "succeeded"),
    [
        (Outcome.DONE, 0, at(11)),
        (Outcome.FILESYSTEM_ERRORS, 2, at(1)),
        (Outcome.CONNECT_FAILED, -1, at(1)),
        (Outcome.FAILED, -1, at(1)),
        (Outcome.CANCELLED, 0, at(1)),
    ],
)
def test_the_end_of_a_run(outcome: Outcome, failed: int, succeeded: datetime) -> None:
    totals = RunTotals()
    totals.ended(run(0, Outcome.DONE))
    broken = [filesystem(name, 0, ErrorClass.PERMANENT) for name in ("a", "b")]
    totals.picture(report(at(10), *broken, filesystem("c", 0)), 0)
    totals.ended(run(10, outcome))
    assert (totals.failed, totals.succeeded) == (failed, succeeded)
    assert totals.runs[outcome] == (2 if outcome is Outcome.DONE else 1)
    assert totals.errors[ErrorClass.PERMANENT] == 2


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome.CONNECT_FAILED, ErrorClass.RECONNECT),
        (Outcome.FAILED, ErrorClass.PERMANENT),
    ],
)
def test_a_run_that_came_to_no_picture_is_one_error(outcome: Outcome, kind: ErrorClass) -> None:
    totals = RunTotals()
    totals.picture(report(at(0), filesystem("a", 1)), 0)
    totals.ended(run(0, Outcome.DONE))
    totals.ended(run(10, outcome))
    assert {kind for kind, count in totals.errors.items() if count} == {kind}
