"""From the jobs' status and from totals to metric families, at the moment of a scrape. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)

from zrepl_trio.jobs.base import JobStatus, JobType, Outcome, Phase
from zrepl_trio.monitoring.runs import RunTotals
from zrepl_trio.rpc.shutdown import ShutdownTotals

__all__ = ["job_families", "run_families", "shutdown_families"]

_DOWN = {Phase.FAILED, Phase.STOPPED, Phase.STARTING}
_SIDES = {
    JobType.PULL: "receiver",
    JobType.SINK: "receiver",
    JobType.PUSH: "sender",
    JobType.SOURCE: "sender",
}
_DATASET_LABELS = ("zrepl_job", "side", "filesystem", "peer")


def job_families(jobs: Sequence[JobStatus]) -> Iterator[Metric]:
    """What the jobs' status tells as it is."""
    up = GaugeMetricFamily(
        "zrepl_trio_job_up",
        "1 while the job does what it is there for, 0 while it has failed and waits for its restart",
        labels=("zrepl_job", "type"),
    )
    connections = GaugeMetricFamily(
        "zrepl_trio_connections", "connections that a passive job serves now", labels=("zrepl_job",)
    )
    success = GaugeMetricFamily(
        "zrepl_trio_job_last_run_success",
        "whether the last run that has ended did all it should",
        labels=("zrepl_job",),
    )
    finished = GaugeMetricFamily(
        "zrepl_trio_job_last_run_finished_seconds",
        "unix time when the last run ended, however it did",
        labels=("zrepl_job",),
    )
    duration = GaugeMetricFamily(
        "zrepl_trio_job_last_run_duration_seconds", "how long it took", labels=("zrepl_job",)
    )
    for job in jobs:
        up.add_metric((job.name, job.type.value), float(job.phase not in _DOWN))
        if job.type in {JobType.SOURCE, JobType.SINK}:
            connections.add_metric((job.name,), job.connections)
        run = job.last_run
        if run is not None and run.finished is not None:
            success.add_metric((job.name,), float(run.outcome is Outcome.DONE))
            finished.add_metric((job.name,), run.finished.timestamp())
            duration.add_metric((job.name,), (run.finished - run.started).total_seconds())
    yield from (up, connections, success, finished, duration, *_dataset_families(jobs))


def _dataset_families(jobs: Sequence[JobStatus]) -> Sequence[Metric]:
    newest = GaugeMetricFamily(
        "zrepl_trio_newest_snapshot_time_seconds",
        "unix time of the newest snapshot on the sender, as last listed",
        labels=_DATASET_LABELS,
    )
    replicated = GaugeMetricFamily(
        "zrepl_trio_replicated_snapshot_time_seconds",
        "unix time of the newest snapshot that both sides have",
        labels=_DATASET_LABELS,
    )
    lag = GaugeMetricFamily(
        "zrepl_trio_replication_lag_seconds",
        "the difference of the two; +Inf while nothing is replicated",
        labels=_DATASET_LABELS,
    )
    for job in jobs:
        if job.type not in _SIDES:
            continue
        for each in job.freshness:
            values = (job.name, _SIDES[job.type], each.dataset, each.peer)
            for family, value in (
                (newest, each.times.newest),
                (replicated, each.times.replicated),
                (lag, each.times.lag_s),
            ):
                if value is not None:
                    family.add_metric(values, value)
    return newest, replicated, lag


def run_families(totals: Mapping[str, RunTotals]) -> Iterator[Metric]:
    """What the runs of each active job add up to."""
    moved = Metric(
        "zrepl_replication_bytes_replicated",
        "number of bytes replicated from sender to receiver per filesystem",
        "counter",
    )
    failed = GaugeMetricFamily(
        "zrepl_replication_filesystem_errors",
        "number of filesystems that failed in the last attempt of the last run, "
        "-1 if it did not get as far as knowing them",
        labels=("zrepl_job",),
    )
    succeeded = GaugeMetricFamily(
        "zrepl_replication_last_successful",
        "unix time of the last run that ended well",
        labels=("zrepl_job",),
    )
    runs = CounterMetricFamily(
        "zrepl_trio_job_runs", "runs that have ended, by outcome", labels=("zrepl_job", "outcome")
    )
    errors = CounterMetricFamily(
        "zrepl_trio_replication_errors",
        "errors of filesystems and of whole attempts, by what helps: retry, reconnect, or a person",
        labels=("zrepl_job", "class"),
    )
    for job, total in totals.items():
        for filesystem, count in total.moved.items():
            labels = {"zrepl_job": job, "filesystem": filesystem}
            moved.add_sample(moved.name, labels, count)
        failed.add_metric((job,), total.failed)
        if total.succeeded is not None:
            succeeded.add_metric((job,), total.succeeded.timestamp())
        for outcome in Outcome:
            runs.add_metric((job, outcome.value), total.runs[outcome])
        for kind, count in total.errors.items():
            errors.add_metric((job, kind.value), count)
    yield from (moved, failed, succeeded, runs, errors)


def shutdown_families(totals: ShutdownTotals) -> Iterator[Metric]:
    """How data connections have ended."""
    for name, what, summary in (
        ("seconds", "seconds that the shutdown of a data connection took", totals.seconds),
        (
            "drain_seconds",
            "seconds of it from its half-close to its end",
            totals.drain_seconds,
        ),
        (
            "drain_bytes_read",
            "bytes that the peer sent meanwhile, and that were thrown away",
            totals.drain_bytes,
        ),
    ):
        yield SummaryMetricFamily(
            f"zrepl_frameconn_shutdown_{name}",
            what,
            count_value=summary.count,
            sum_value=summary.total,
        )
    for name, what, steps in (
        (
            "hard_closes",
            "data connections that were closed before the peer had left, by the step that failed",
            totals.hard_closes,
        ),
        ("close_errors", "data connections whose close failed", totals.close_errors),
    ):
        counter = Metric(f"zrepl_frameconn_shutdown_{name}", what, "counter")
        for step, count in steps.items():
            counter.add_sample(counter.name, {"step": step.value}, count)
        yield counter
