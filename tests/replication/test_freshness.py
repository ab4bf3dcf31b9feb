from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.replication.notation import EPOCH, versions
from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.replication.freshness import after_report, times_of
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    FilesystemReport,
    Report,
)

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sender", "receiver", "newest", "replicated", "lag"),
    [
        ("", "", None, None, None),
        ("@a,1 @b,2", "", 2, None, math.inf),
        ("@a,1 @b,2 @c,5", "@a,1 @b,2", 5, 2, 3),
        ("@a,1 @b,2", "@a,1 @b,2", 2, 2, 0),
        ("#a,1 @b,2", "@a,1", 2, 1, 1),  # the common one is a bookmark by now
        ("@a,1 @b,2", "@a,1 @own,9", 2, 1, 1),  # what the receiver has alone is no copy
        ("@b,2", "@other,9", 2, None, math.inf),
        ("#b,2", "@a,1", None, None, None),
    ],
)
def test_times_of_a_pair(
    sender: str, receiver: str, newest: int | None, replicated: int | None, lag: float | None
) -> None:
    times = times_of(versions(sender), versions(receiver))
    since_epoch = SnapshotTimes(
        newest=None if newest is None else EPOCH + newest,
        replicated=None if replicated is None else EPOCH + replicated,
    )
    assert times == since_epoch
    assert times.lag_s == lag


def attempt(state: AttemptState, **times: SnapshotTimes | None) -> AttemptReport:
    filesystems = tuple(FilesystemReport(name=name, times=each) for name, each in times.items())
    return AttemptReport(state=state, start=NOON, filesystems=filesystems)


OLD, NEW = SnapshotTimes(newest=5, replicated=3), SnapshotTimes(newest=9, replicated=9)
BEFORE = {"a": OLD, "gone": OLD}


@pytest.mark.parametrize(
    ("attempts", "after"),
    [
        ([], BEFORE),
        ([attempt(AttemptState.PLANNING)], BEFORE),
        ([attempt(AttemptState.PLANNING_ERROR)], BEFORE),
        ([attempt(AttemptState.DONE, a=NEW)], {"a": NEW}),
        ([attempt(AttemptState.FAN_OUT, a=NEW, b=OLD)], {"a": NEW, "b": OLD}),
        # not listed this time: what was known still holds
        ([attempt(AttemptState.FILESYSTEM_ERROR, a=None)], {"a": OLD}),
        ([attempt(AttemptState.FILESYSTEM_ERROR, a=SnapshotTimes())], {"a": SnapshotTimes()}),
        (
            [
                attempt(AttemptState.FILESYSTEM_ERROR, a=NEW),
                attempt(AttemptState.PLANNING_ERROR),
            ],
            {"a": NEW},
        ),
    ],
)
def test_what_is_known_after_a_run(
    attempts: list[AttemptReport], after: dict[str, SnapshotTimes]
) -> None:
    report = Report(start=NOON, attempts=tuple(attempts))
    assert after_report(BEFORE, report) == after
    # asked in the middle of a run or twice, it says the same
    assert after_report(after_report(BEFORE, report), report) == after
    assert after_report(BEFORE, replace(report, finish=NOON)) == after
