"""What a user reads when the daemon says no to a signal."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from zrepl_trio.cli.signal import refusal
from zrepl_trio.control.api import Status
from zrepl_trio.control.documents import status_document
from zrepl_trio.jobs.base import JobStatus, JobType, Phase

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
STATUS = Status.model_validate(
    status_document(
        [
            JobStatus(name="fetch", type=JobType.PULL, phase=Phase.WAITING),
            JobStatus(name="serve", type=JobType.SOURCE, phase=Phase.SERVING),
        ],
        active=(),
        stuck=(),
        version="1",
        started=NOON,
    )
)


@pytest.mark.parametrize(
    ("job", "operation", "no", "said"),
    [
        ("fecth", "wakeup", "Job fecth does not exist", "no job 'fecth' (its jobs: fetch, serve)"),
        ("serve", "wakeup", "already woken up", "serve is a source job"),
        ("fetch", "wakeup", "already woken up", "fetch runs already, `zrepl-trio status` shows"),
        ("fetch", "reset", "already reset", "fetch does not run now"),
        ("fetch", "wakeup", "job fetch is not ready: starting", "not ready: starting"),
    ],
)
def test_a_refusal_names_the_job_and_the_way_out(
    job: str, operation: str, no: str, said: str
) -> None:
    text = refusal(no, STATUS, job, operation)
    assert said in text
    assert len(text.splitlines()) == 1
