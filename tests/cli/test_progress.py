from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from zrepl_trio.cli.progress import ProgressLines, news
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    FilesystemReport,
    FilesystemState,
    Report,
    StepReport,
    TimedError,
)

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
MIB = 1024**2
STEPS = (
    StepReport(from_="", to="@1", expected=4 * MIB, replicated=0),
    StepReport(from_="@1", to="@2", expected=2 * MIB),
)
STEPPING = FilesystemReport(name="tank/a", state=FilesystemState.STEPPING, steps=STEPS)


def report(*filesystems: FilesystemReport) -> Report:
    attempt = AttemptReport(state=AttemptState.FAN_OUT, start=NOON, filesystems=filesystems)
    return Report(start=NOON, attempts=(attempt,))


def moved(filesystem: FilesystemReport, count: int) -> FilesystemReport:
    index = filesystem.current
    steps = list(filesystem.steps)
    steps[index] = replace(steps[index], replicated=count)
    return replace(filesystem, steps=tuple(steps))


def test_a_finished_step_is_news_once() -> None:
    before = report(moved(STEPPING, MIB))
    after = report(replace(moved(STEPPING, 4 * MIB), current=1))
    assert news(before, after) == ["tank/a: step 1/2, full send @1: 4.0 MiB"]
    assert news(after, after) == []


def test_an_error_is_news_once_and_in_full() -> None:
    failed = replace(
        STEPPING, state=FilesystemState.STEP_ERROR, step_error=TimedError("no\nspace", NOON)
    )
    assert news(report(STEPPING), report(failed)) == ["tank/a: FAILED: no\nspace"]
    assert news(report(failed), report(failed)) == []


def test_what_needs_nothing_is_said() -> None:
    done = FilesystemReport(name="tank/a", state=FilesystemState.DONE)
    assert news(None, report(done)) == ["tank/a: up to date"]


def test_another_attempt_and_a_wait_are_news() -> None:
    first = report(STEPPING)
    waiting = replace(first, wait_until=NOON, wait_error=TimedError("cut", NOON))
    assert news(first, waiting) == ["waiting for the link: cut"]
    again = replace(first, attempts=first.attempts * 2)
    assert "attempt 2" in news(waiting, again)


def test_names_of_a_peer_are_escaped() -> None:
    evil = FilesystemReport(name="tank/\x1b[2J", state=FilesystemState.DONE)
    assert news(None, report(evil)) == ["tank/\\x1b[2J: up to date"]


def test_bytes_are_told_now_and_then() -> None:
    said: list[str] = []
    now = [0.0]
    lines = ProgressLines(say=said.append, monotonic=lambda: now[0])
    for second in range(6):
        now[0] = second
        lines(report(moved(STEPPING, second * MIB // 2)))
    assert said == [
        "tank/a: step 1/2, full send @1: 512.0 KiB of 4.0 MiB so far",
        "tank/a: step 1/2, full send @1: 1.5 MiB of 4.0 MiB so far",
        "tank/a: step 1/2, full send @1: 2.5 MiB of 4.0 MiB so far",
    ]


def test_a_total_that_is_exceeded_is_not_told() -> None:
    said: list[str] = []
    ProgressLines(say=said.append, monotonic=lambda: 0.0)(report(moved(STEPPING, 5 * MIB)))
    assert said == ["tank/a: step 1/2, full send @1: 5.0 MiB so far"]
