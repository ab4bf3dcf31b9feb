"""The page as Prometheus reads it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from tests.monitoring.pages import parse_page
from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.jobs.base import Invocation, JobStatus, JobType, Outcome, Phase
from zrepl_trio.logs.lines import Entry, Level
from zrepl_trio.monitoring.metrics import Metrics
from zrepl_trio.process import Usage
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.report import FilesystemPruneReport, PruneReport, PruneState
from zrepl_trio.replication.freshness import DatasetFreshness
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    FilesystemReport,
    Report,
    StepReport,
)
from zrepl_trio.rpc.shutdown import Step
from zrepl_trio.zfs.names import DatasetPath

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
EPOCH_NOON = NOON.timestamp()

# name: type, labels (behaviour reference 7.1)
ZREPLS = {
    "zrepl_pruning_time": ("histogram", {"zrepl_job", "prune_side"}),
    "zrepl_start_time": ("gauge", {"raw", "version_info"}),
    "zrepl_daemon_log_entries": ("counter", {"zrepl_job", "level"}),
    "zrepl_control_request_begin": ("counter", {"endpoint"}),
    "zrepl_control_request_finished": ("histogram", {"endpoint"}),
    "zrepl_replication_state_time": ("histogram", {"zrepl_job", "state"}),
    "zrepl_replication_bytes_replicated": ("counter", {"zrepl_job", "filesystem"}),
    "zrepl_replication_filesystem_errors": ("gauge", {"zrepl_job"}),
    "zrepl_replication_last_successful": ("gauge", {"zrepl_job"}),
    "zrepl_zfscmd_runtime": ("histogram", {"jobid", "zfsbinary", "zfsverb"}),
    "zrepl_zfscmd_systemtime": ("histogram", {"jobid", "zfsbinary", "zfsverb"}),
    "zrepl_zfscmd_usertime": ("histogram", {"jobid", "zfsbinary", "zfsverb"}),
    "zrepl_trace_active_tasks": ("gauge", set()),
    "zrepl_endpoint_abstractions_cache_entry_count": ("gauge", set()),
    "zrepl_zfs_list_filesystem_versions_duration": ("histogram", {"filesystem"}),
    "zrepl_zfs_snapshot_duration": ("histogram", {"filesystem"}),
    "zrepl_zfs_bookmark_duration": ("histogram", {"filesystem"}),
    "zrepl_zfs_destroy_duration": ("histogram", {"dataset_type", "filesystem"}),
    "zrepl_zfs_list_unmatched_user_specified_dataset_count": ("gauge", {"jobid"}),
    "zrepl_frameconn_shutdown_drain_bytes_read": ("summary", set()),
    "zrepl_frameconn_shutdown_seconds": ("summary", set()),
    "zrepl_frameconn_shutdown_drain_seconds": ("summary", set()),
    "zrepl_frameconn_shutdown_hard_closes": ("counter", {"step"}),
    "zrepl_frameconn_shutdown_close_errors": ("counter", {"step"}),
}


class Noon:
    def now(self) -> datetime:
        return NOON


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    ticks = iter(range(1000))
    yield Metrics(
        clock=Noon(), monotonic=lambda: float(next(ticks)), version="1.2", about="zrepl-trio"
    )
    structlog.contextvars.clear_contextvars()


def fill(metrics: Metrics) -> None:
    """Something under every name."""
    metrics.log_entry(Entry(time=NOON, level=Level.WARN, msg="m", fields={"job": "pull"}))
    metrics.log_entry(Entry(time=NOON, level=Level.WARN, msg="m", fields={}))
    steps = (StepReport(from_="", to="@1", replicated=1000),)
    attempt = AttemptReport(
        state=AttemptState.PLANNING,
        start=NOON,
        filesystems=(FilesystemReport(name='tank/"a"', steps=steps),),
    )
    report = Report(start=NOON, attempts=(attempt,))
    metrics.replicating("pull", report)
    fan_out = replace(attempt, state=AttemptState.FAN_OUT)
    metrics.replicating("pull", replace(report, attempts=(fan_out,)))
    metrics.run_ended(
        "pull", Invocation(number=1, started=NOON, finished=NOON, outcome=Outcome.DONE)
    )
    pruned = PruneReport(
        side=PruneSide.SENDER,
        started=NOON,
        finished=NOON + timedelta(seconds=3),
        completed=(FilesystemPruneReport(path=DatasetPath.parse("tank"), destroyed=4, foreign=2),),
    )
    metrics.pruned("push", pruned)
    # nobody knows better than before how many wait for a word
    unreachable = PruneReport(
        side=PruneSide.SENDER, state=PruneState.PLAN_ERR, started=NOON, error="no link"
    )
    metrics.pruned("push", unreachable)
    metrics.refused("sink", "app-srv", 5)
    metrics.unmatched("source", 2)
    metrics.unmatched("source", 1)
    metrics.timed({"/version": lambda _body: {}, "/status": lambda _body: {}})["/version"](b"")
    structlog.contextvars.bind_contextvars(job="source")
    usage = Usage(user_s=0.015, system_s=0.25)
    metrics.command_ended(("/sbin/zfs", "snapshot", "tank@1"), 0.02, usage)
    metrics.command_ended(("zfs", "bookmark", "tank@1", "tank#1"), 0.02, usage)
    metrics.command_ended(("zfs", "destroy", "tank#1"), 0.02, None)
    metrics.command_ended(("zfs", "list", "-t", "bookmark,snapshot", "tank"), 70, usage)
    totals = metrics.shutdowns
    totals.seconds.add(1.5)
    totals.drain_seconds.add(1)
    totals.drain_bytes.add(300)
    totals.drain_bytes.add(0)
    totals.hard_closes[Step.RESET] += 2
    totals.close_errors[Step.CLOSE] += 1


async def test_zrepls_names_types_and_labels(metrics: Metrics) -> None:
    fill(metrics)
    text = metrics.page().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert {name: types[name] for name in ZREPLS} == {
        name: kind for name, (kind, _) in ZREPLS.items()
    }
    for sample in parse_page(text):
        name, _, labels = sample.partition("{")
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        if family in ZREPLS:
            found = set(re.findall(r'(\w+)="', labels)) - {"le"}
            assert found == ZREPLS[family][1], sample
    ours = {name for name in types if name.startswith("zrepl")} - set(ZREPLS)
    assert all(name.startswith("zrepl_trio_") for name in ours)
    assert not any(name.endswith("_created") for name in types)
    assert types["process_resident_memory_bytes"] == "gauge"


ZFS_SNAPSHOT = 'zfsbinary="zfs",zfsverb="snapshot"'
SNAPSHOT = f'jobid="source",{ZFS_SNAPSHOT}'


async def test_what_was_told_is_shown(metrics: Metrics) -> None:
    fill(metrics)
    page = parse_page(metrics.page().decode())
    expected = {
        'zrepl_start_time{raw="1.2",version_info="zrepl-trio"}': EPOCH_NOON,
        'zrepl_daemon_log_entries{level="warn",zrepl_job="pull"}': 1,
        'zrepl_daemon_log_entries{level="warn",zrepl_job="_nojobid"}': 1,
        'zrepl_control_request_begin{endpoint="/version"}': 1,
        'zrepl_control_request_finished_count{endpoint="/version"}': 1,
        'zrepl_replication_state_time_sum{state="planning",zrepl_job="pull"}': 1,
        'zrepl_replication_bytes_replicated{filesystem="tank/"a"",zrepl_job="pull"}': 1000,
        'zrepl_replication_filesystem_errors{zrepl_job="pull"}': 0,
        'zrepl_replication_last_successful{zrepl_job="pull"}': EPOCH_NOON,
        'zrepl_zfscmd_runtime_count{jobid="source",zfsbinary="zfs",zfsverb="snapshot"}': 1,
        'zrepl_zfscmd_runtime_bucket{jobid="source",le="60.0",zfsbinary="zfs",zfsverb="list"}': 0,
        f"zrepl_zfscmd_usertime_sum{{{SNAPSHOT}}}": 0.015,
        f'zrepl_zfscmd_usertime_bucket{{jobid="source",le="0.01",{ZFS_SNAPSHOT}}}': 0,
        f'zrepl_zfscmd_usertime_bucket{{jobid="source",le="0.1",{ZFS_SNAPSHOT}}}': 1,
        f"zrepl_zfscmd_systemtime_sum{{{SNAPSHOT}}}": 0.25,
        f"zrepl_zfscmd_systemtime_count{{{SNAPSHOT}}}": 1,
        'zrepl_zfscmd_usertime_sum{jobid="source",zfsbinary="zfs",zfsverb="destroy"}': -1,
        'zrepl_zfscmd_systemtime_sum{jobid="source",zfsbinary="zfs",zfsverb="destroy"}': -1,
        'zrepl_zfscmd_systemtime_count{jobid="source",zfsbinary="zfs",zfsverb="destroy"}': 1,
        'zrepl_zfs_list_filesystem_versions_duration_sum{filesystem="tank"}': 70,
        'zrepl_zfs_destroy_duration_count{dataset_type="bookmark",filesystem="tank"}': 1,
        'zrepl_zfs_list_unmatched_user_specified_dataset_count{jobid="source"}': 3,
        'zrepl_trio_job_runs_total{outcome="done",zrepl_job="pull"}': 1,
        'zrepl_trio_job_runs_total{outcome="failed",zrepl_job="pull"}': 0,
        'zrepl_trio_replication_errors_total{class="retry",zrepl_job="pull"}': 0,
    }
    assert {key: page.get(key) for key in expected} == expected
    assert page["zrepl_trace_active_tasks"] > 0


DONE = Invocation(
    number=2, started=NOON - timedelta(seconds=60), finished=NOON, outcome=Outcome.DONE
)
PULL = JobStatus(name="pull", type=JobType.PULL, phase=Phase.WAITING)
SOURCE = JobStatus(name="source", type=JobType.SOURCE, phase=Phase.SERVING)


async def test_the_ends_of_data_connections_are_shown_as_they_are(metrics: Metrics) -> None:
    def shown() -> dict[str, float]:
        page = parse_page(metrics.page().decode())
        lead = "zrepl_frameconn_shutdown_"
        return {name.removeprefix(lead): page[name] for name in page if name.startswith(lead)}

    before = shown()
    assert set(before.values()) == {0}
    fill(metrics)
    told = {
        "seconds_count": 1,
        "seconds_sum": 1.5,
        "drain_seconds_count": 1,
        "drain_seconds_sum": 1,
        "drain_bytes_read_count": 2,
        "drain_bytes_read_sum": 300,
        'hard_closes{step="write_frame"}': 2,
        'hard_closes{step="close_write"}': 0,
        'hard_closes{step="drain"}': 0,
        'close_errors{step="close"}': 1,
    }
    assert shown() == told
    assert before.keys() == told.keys()


def fresh(newest: int | None, replicated: int | None, peer: str = "") -> DatasetFreshness:
    times = SnapshotTimes(newest=newest, replicated=replicated)
    return DatasetFreshness(dataset="tank", times=times, peer=peer)


DATASET = 'filesystem="tank",peer="{}",side="{}",zrepl_job="{}"'


@pytest.mark.parametrize(
    ("job", "samples"),
    [
        (PULL, {'job_up{type="pull",zrepl_job="pull"}': 1}),
        (replace(PULL, phase=Phase.FAILED), {'job_up{type="pull",zrepl_job="pull"}': 0}),
        (
            replace(PULL, last_run=DONE, phase=Phase.RUNNING),
            {
                'job_up{type="pull",zrepl_job="pull"}': 1,
                'job_last_run_success{zrepl_job="pull"}': 1,
                'job_last_run_finished_seconds{zrepl_job="pull"}': EPOCH_NOON,
                'job_last_run_duration_seconds{zrepl_job="pull"}': 60,
            },
        ),
        (
            replace(PULL, last_run=replace(DONE, outcome=Outcome.CANCELLED)),
            {'job_last_run_success{zrepl_job="pull"}': 0},
        ),
        (
            replace(SOURCE, connections=3),
            {
                'job_up{type="source",zrepl_job="source"}': 1,
                'connections{zrepl_job="source"}': 3,
            },
        ),
        (
            replace(PULL, freshness=(fresh(100, 70),)),
            {
                f"newest_snapshot_time_seconds{{{DATASET.format('', 'receiver', 'pull')}}}": 100,
                f"replicated_snapshot_time_seconds{{{DATASET.format('', 'receiver', 'pull')}}}": 70,
                f"replication_lag_seconds{{{DATASET.format('', 'receiver', 'pull')}}}": 30,
            },
        ),
        (
            replace(SOURCE, freshness=(fresh(100, None, "backup"),)),
            {
                f"newest_snapshot_time_seconds{{{DATASET.format('backup', 'sender', 'source')}}}": 100,
                f"replication_lag_seconds{{{DATASET.format('backup', 'sender', 'source')}}}": math.inf,
            },
        ),
    ],
)
async def test_a_jobs_status_becomes_samples(
    metrics: Metrics, job: JobStatus, samples: dict[str, float]
) -> None:
    metrics.show_jobs(lambda: [job])
    page = parse_page(metrics.page().decode())
    expected = {f"zrepl_trio_{name}": value for name, value in samples.items()}
    assert {name: page.get(name) for name in expected} == expected
    if job.freshness:  # and no others of a dataset
        shown = {name for name in page if "side=" in name}
        assert shown == set(expected)


async def test_what_pruning_did_is_counted_by_side(metrics: Metrics) -> None:
    fill(metrics)
    page = parse_page(metrics.page().decode())
    labels = '{prune_side="sender",zrepl_job="push"}'
    assert page[f"zrepl_pruning_time_sum{labels}"] == 3
    assert page[f"zrepl_trio_snapshots_destroyed_total{labels}"] == 4
    assert page[f"zrepl_trio_snapshots_unconfirmed{labels}"] == 2
    assert page['zrepl_trio_destroy_refused_total{peer="app-srv",zrepl_job="sink"}'] == 5


def test_a_failing_request_is_counted_too(metrics: Metrics) -> None:
    def fail(_body: bytes) -> object:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        metrics.timed({"/signal": fail})["/signal"](b"")
    quiet = metrics.timed({"/status": lambda _body: 1})["/status"]
    assert quiet(b"") == 1
