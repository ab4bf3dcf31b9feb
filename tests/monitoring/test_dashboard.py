"""What zrepl's Grafana dashboard asks for is there as soon as the daemon is up."""

from __future__ import annotations

import re

import pytest

from tests.monitoring.pages import parse_page
from tests.monitoring.test_metrics import NOON, PULL, SOURCE, Noon, fill
from zrepl_trio.jobs.base import JobStatus, JobType, Phase
from zrepl_trio.logs.lines import Entry, Level
from zrepl_trio.monitoring.metrics import Metrics

PUSH = JobStatus(name="push", type=JobType.PUSH, phase=Phase.WAITING)

# metric: labels that its variables and panels go by (behaviour reference, 7.1). `job` and `instance`
# are Prometheus' own.
AT_START = {
    "zrepl_start_time": {"raw"},
    "zrepl_replication_filesystem_errors": {"zrepl_job"},
    "zrepl_daemon_log_entries": {"zrepl_job", "level"},
    "zrepl_trace_active_tasks": set(),
    "zrepl_endpoint_abstractions_cache_entry_count": set(),
}
ONCE_SOMETHING_IS_REPLICATED_OR_LISTED = {
    "zrepl_replication_bytes_replicated": {"zrepl_job"},
    "zrepl_zfs_list_unmatched_user_specified_dataset_count": {"jobid"},
}


def shown(metrics: Metrics) -> dict[str, list[dict[str, str]]]:
    """The labels of each sample, by its name."""
    found: dict[str, list[dict[str, str]]] = {}
    for sample in parse_page(metrics.page().decode()):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', sample))
        found.setdefault(sample.partition("{")[0], []).append(labels)
    return found


@pytest.fixture
async def metrics() -> Metrics:
    made = Metrics(clock=Noon(), monotonic=lambda: 0.0, version="1.2", about="zrepl-trio")
    made.show_jobs(lambda: [PULL, PUSH, SOURCE])
    made.log_entry(Entry(time=NOON, level=Level.INFO, msg="starting", fields={}))
    return made


async def test_each_query_of_a_daemon_that_has_just_started_has_a_sample(metrics: Metrics) -> None:
    samples = shown(metrics)
    for name, labels in AT_START.items():
        assert samples[name], name
        assert all(labels <= sample.keys() for sample in samples[name]), name


async def test_the_active_jobs_are_found_by_their_errors_and_no_passive_one(
    metrics: Metrics,
) -> None:
    page = parse_page(metrics.page().decode())
    name = "zrepl_replication_filesystem_errors"
    found = {key: value for key, value in page.items() if key.startswith(name)}
    assert found == {f'{name}{{zrepl_job="pull"}}': 0, f'{name}{{zrepl_job="push"}}': 0}


async def test_what_comes_with_the_first_run_goes_by_the_same_labels(metrics: Metrics) -> None:
    fill(metrics)
    samples = shown(metrics)
    for name, labels in ONCE_SOMETHING_IS_REPLICATED_OR_LISTED.items():
        assert samples[name], name
        assert all(labels <= sample.keys() for sample in samples[name]), name
