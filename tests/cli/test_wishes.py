"""`--resolve` given to several jobs at once: one of them is to have the filesystem."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.replication.notation import path
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.cli.plan import JobPlan, each_wish_once
from zrepl_trio.cli.run import untaken
from zrepl_trio.jobs.base import JobStatus, JobType, Phase, Wishes
from zrepl_trio.replication.policy import DivergencePolicy
from zrepl_trio.replication.preview import FilesystemPreview
from zrepl_trio.replication.report import AttemptReport, AttemptState, FilesystemReport, Report

NOW = datetime(2026, 5, 6, tzinfo=UTC)


def plan(*names: str, lacks: str = "") -> JobPlan:
    there = [FilesystemPreview(path=path(name)) for name in names]
    wished = [
        FilesystemPreview(path=path(name), problem="none", offered=False) for name in lacks.split()
    ]
    return JobPlan(job="j", type="pull", peer="p", filesystems=[*there, *wished])


@pytest.mark.parametrize(
    ("plans", "codes", "told"),
    [
        ([plan("t/a", lacks="t/x")], [ExitCode.FAILED], [["t/a", "t/x"]]),
        (
            [plan("t/a", lacks="t/b"), plan("t/b")],
            [ExitCode.DONE, ExitCode.DONE],
            [["t/a"], ["t/b"]],
        ),
        (
            [plan("t/a", lacks="t/b t/x"), plan("t/b", lacks="t/x")],
            [ExitCode.FAILED, ExitCode.FAILED],
            [["t/a", "t/x"], ["t/b", "t/x"]],
        ),
    ],
)
def test_a_plan_misses_what_no_job_offers(
    plans: list[JobPlan], codes: list[ExitCode], told: list[list[str]]
) -> None:
    found = each_wish_once(plans)
    assert [each.code for each in found] == codes
    assert [[fs.path for fs in each.filesystems] for each in found] == told


def ran(*names: str, planned: bool = True) -> JobStatus:
    attempt = AttemptReport(
        state=AttemptState.DONE,
        start=NOW,
        filesystems=tuple(FilesystemReport(name=name) for name in names),
    )
    report = Report(start=NOW, attempts=(attempt,)) if planned else None
    return JobStatus(name="j", type=JobType.PULL, phase=Phase.WAITING, replication=report)


@pytest.mark.parametrize(
    ("statuses", "missed"),
    [
        ([ran("t/a"), ran("t/b")], ["t/x"]),
        ([ran("t/a", "t/x"), ran("t/b")], []),
        ([ran(planned=False)], ["t/b", "t/x"]),
        ([], ["t/b", "t/x"]),
    ],
)
def test_runs_miss_what_no_job_offered(statuses: list[JobStatus], missed: list[str]) -> None:
    wishes = Wishes(divergence={path(name): DivergencePolicy.KEEP_COPY for name in ("t/b", "t/x")})
    assert untaken(statuses, wishes) == missed
