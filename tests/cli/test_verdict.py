"""What `check` makes of a status."""

from __future__ import annotations

import math

import pytest

from zrepl_trio.cli.check import verdict_text
from zrepl_trio.cli.verdict import Finding, JobFacts, Limit, State, Verdict, judge
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.control.api import DatasetModel, InvocationModel, JobModel, SnapperModel
from zrepl_trio.snapshots.report import SnapperReport

NOW = 1_000_000
HOUR = 3600
AGE = LAG = Limit(HOUR, 2 * HOUR)


def dataset(newest: int | None, replicated: int | None, peer: str = "") -> DatasetModel:
    """A dataset with snapshots of so many seconds ago."""

    def taken(ago: int | None) -> int | None:
        return None if ago is None else NOW - ago

    return DatasetModel(
        name="tank", peer=peer, newest_snapshot=taken(newest), replicated_snapshot=taken(replicated)
    )


def run(outcome: str, error: str = "") -> InvocationModel:
    return InvocationModel(number=1, outcome=outcome, error=error)


def facts(told: JobModel, kind: str = "pull", **ages: int | None) -> JobFacts:
    newest = {name: None if age is None else NOW - age for name, age in ages.items()}
    return JobFacts(name="j", type=kind, told=told, newest=newest)


def cron(skipped: int) -> SnapperModel:
    """As a daemon says it."""
    report = SnapperReport(kind="cron", skipped=skipped)
    return SnapperModel.model_validate(report.to_json(lambda _when: "0001-01-01T00:00:00Z"))


WAITING = JobModel(phase="waiting")
SERVING = JobModel(phase="serving")


@pytest.mark.parametrize(
    ("job", "state", "text"),
    [
        (facts(WAITING), State.OK, "1 jobs, 0 datasets"),
        (
            facts(JobModel(phase="failed", error="no lock")),
            State.CRITICAL,
            "j: does not run: no lock",
        ),
        (facts(JobModel(phase="starting")), State.WARNING, "j: is still starting"),
        (
            facts(JobModel(phase="waiting", snapshotting=cron(skipped=1))),
            State.WARNING,
            "j: snapshots: 1 time of the cron spec passed during the last run",
        ),
        (
            facts(JobModel(phase="waiting", snapshotting=cron(skipped=4))),
            State.WARNING,
            "j: snapshots: 4 times of the cron spec passed during the last run",
        ),
        (facts(JobModel(phase="running", last_run=run("done"))), State.OK, "1 jobs, 0 datasets"),
        (
            facts(JobModel(phase="waiting", last_run=run("filesystem-errors", "tank: full\nmore"))),
            State.CRITICAL,
            "j: the last run failed for some filesystem: tank: full",
        ),
        (
            facts(JobModel(phase="waiting", last_run=run("connect-failed", "no route"))),
            State.WARNING,
            "j: the last run could not connect: no route",
        ),
        (
            facts(JobModel(phase="waiting", last_run=run("cancelled"))),
            State.WARNING,
            "j: the last run was cancelled",
        ),
        (
            facts(JobModel(phase="waiting", datasets=(dataset(60, 60),))),
            State.OK,
            "1 jobs, 1 datasets, oldest snapshot 1m 00s",
        ),
        (
            facts(JobModel(phase="waiting", datasets=(dataset(HOUR, HOUR),))),
            State.WARNING,
            "j: tank: the newest replicated snapshot is 1h 00m old",
        ),
        (
            facts(JobModel(phase="waiting", datasets=(dataset(60, 2 * HOUR),))),
            State.CRITICAL,
            "j: tank: the newest replicated snapshot is 2h 00m old (and 1 more)",
        ),
        (
            facts(JobModel(phase="waiting", datasets=(dataset(60, None),))),
            State.CRITICAL,
            "j: tank: there is no replicated snapshot (and 1 more)",
        ),
        # nothing to copy, such as a parent of others
        (
            facts(JobModel(phase="waiting", datasets=(dataset(None, None),))),
            State.OK,
            "1 jobs, 1 d",
        ),
        # a clock that runs ahead elsewhere
        (
            facts(JobModel(phase="waiting", datasets=(dataset(-60, -60),))),
            State.OK,
            "1 jobs, 1 datasets, oldest snapshot 0 ms",
        ),
        # before the first run, ZFS is asked
        (
            facts(WAITING, tank=2 * HOUR),
            State.CRITICAL,
            "j: tank: the newest replicated snapshot is 2h 00m old",
        ),
        # the sending side: its own snapshots by ZFS, its clients' copies by what they said
        (facts(SERVING, "source", tank=60), State.OK, "1 jobs, 1 datasets, oldest snapshot 1m 00s"),
        (
            facts(SERVING, "source", tank=None),
            State.CRITICAL,
            "j: tank: there is no snapshot",
        ),
        (
            facts(
                JobModel(phase="serving", datasets=(dataset(60, 60 + HOUR, "backup"),)),
                "source",
                tank=60,
            ),
            State.WARNING,
            "j: tank at backup: 1h 00m behind",
        ),
    ],
)
def test_a_job_is_judged(job: JobFacts, state: State, text: str) -> None:
    verdict = judge([job], age=AGE, lag=LAG, now=NOW)
    assert verdict.state is state
    assert verdict.summary.startswith(text)
    assert (verdict.findings == ()) == (state is State.OK)


def test_without_limits_ages_are_told_and_never_wrong() -> None:
    old = JobModel(phase="waiting", datasets=(dataset(0, None), dataset(0, 90 * 86400)))
    verdict = judge([facts(old)], age=Limit(), lag=Limit(), now=NOW)
    assert verdict.state is State.OK
    assert verdict.age_s == verdict.lag_s == 90 * 86400


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ([], State.OK),
        ([State.WARNING, State.CRITICAL], State.CRITICAL),
        ([State.UNKNOWN, State.CRITICAL], State.CRITICAL),
        ([State.UNKNOWN, State.WARNING], State.UNKNOWN),
    ],
)
def test_the_worst_finding_counts(states: list[State], worst: State) -> None:
    findings = tuple(Finding(state, "j", state.name) for state in states)
    verdict = Verdict(jobs=1, datasets=0, findings=findings)
    assert verdict.state is worst
    if findings:
        assert verdict.summary.startswith(f"j: {worst.name}")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1h/2h", Limit(3600, 7200)),
        ("1d/1d", Limit(86400, 86400)),
        ("2d", Limit(math.inf, 2 * 86400)),
    ],
)
def test_limits(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit
    assert limit.given


@pytest.mark.parametrize("text", ["", "x", "1", "2h/1h", "1h/", "/1h", "1h/2h/3h"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ScalarError):
        Limit.parse(text)


def test_the_text_is_one_line_with_performance_data_then_the_details() -> None:
    told = JobModel(
        phase="waiting",
        last_run=run("filesystem-errors", "a | b\n\x1b[31mred"),
        datasets=(dataset(60, HOUR + 60),),
    )
    text = verdict_text(judge([facts(told)], age=AGE, lag=LAG, now=NOW), age=AGE, lag=Limit())
    first, *rest = text.splitlines()
    assert first == (
        "ZREPL CRITICAL - j: the last run failed for some filesystem: a / b (and 2 more) | "
        "age=3660s;3600;7200;0 lag=3600s;;;0 problems=3;;;0"
    )
    assert rest == [
        r"CRITICAL j: the last run failed for some filesystem: a / b; \x1b[31mred",
        "WARNING j: tank: the newest replicated snapshot is 1h 01m old",
        "WARNING j: tank: 1h 00m behind",
    ]


def test_a_snapshot_that_failed_is_critical() -> None:
    failed = SnapperModel.model_validate(
        {"Type": "periodic", "Periodic": {"Progress": [{"Path": "t/a", "Error": "t/a: no space"}]}}
    )
    told = JobModel(phase="waiting", snapshotting=failed)
    verdict = judge([facts(told, "snap")], age=Limit(), lag=Limit(), now=NOW)
    assert verdict.state is State.CRITICAL
    assert "snapshots: t/a: no space" in verdict.summary
