"""All metrics of a daemon, on a registry of its own: zrepl's under zrepl's names, ours as `zrepl_trio_…`.

Who has something to count is handed one of the methods here and knows nothing of Prometheus.
docs/monitoring.md says what each metric means; zrepl's are in the behaviour reference, 7.1.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog
import trio
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from zrepl_trio.clock import WallClock
from zrepl_trio.control.server import Handler
from zrepl_trio.jobs.base import Invocation, JobStatus, JobType
from zrepl_trio.logs.lines import Entry
from zrepl_trio.monitoring.commands import Duration, timed_command
from zrepl_trio.monitoring.families import job_families, run_families, shutdown_families
from zrepl_trio.monitoring.runs import RunTotals
from zrepl_trio.process import Usage
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.report import Report
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.snapshots.report import SnapperReport

__all__ = ["Metrics"]

_GO_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_HOURS_BUCKETS = (*_GO_BUCKETS, 60, 600, 3600, 6 * 3600, 24 * 3600)
_COMMAND_BUCKETS = (0.01, 0.1, 0.2, 0.5, 0.75, 1, 2, 5, 10, 60)
_REQUEST_BUCKETS = (1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 1e-2, 0.1, 0.2, 0.4, 0.8, 1, 10, 20)

_COUNTERS = frozenset(
    {
        "zrepl_control_request_begin",
        "zrepl_daemon_log_entries",
        "zrepl_frameconn_shutdown_close_errors",
        "zrepl_frameconn_shutdown_hard_closes",
        "zrepl_replication_bytes_replicated",
    }
)
"""zrepl's counters, whose names do not end in `_total`."""

_NO_JOB = "_nojobid"
"""zrepl's label for what no job did."""

_UNKNOWN = -1.0
"""What zrepl observes in place of a usage that it does not know."""


class Metrics:
    """Counts what it is told, and makes the page that Prometheus reads. `version` is the daemon's,
    `about` more of it; `monotonic` gives seconds and only measures durations. Who ends data
    connections counts them in `shutdowns`."""

    def __init__(
        self, *, clock: WallClock, monotonic: Callable[[], float], version: str, about: str
    ) -> None:
        self.shutdowns = ShutdownTotals()
        self._monotonic = monotonic
        self._registry = registry = CollectorRegistry()
        self._jobs: Callable[[], Sequence[JobStatus]] = tuple
        self._totals: defaultdict[str, RunTotals] = defaultdict(RunTotals)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Gauge(
            "zrepl_start_time",
            "unix time of the daemon's start, and its version",
            ("raw", "version_info"),
            registry=registry,
        ).labels(version, about).set(clock.now().timestamp())
        self._log_entries = Gauge(
            "zrepl_daemon_log_entries",
            "number of log entries per job and level, those that no outlet shows included",
            ("zrepl_job", "level"),
            registry=registry,
        )
        self._requests_begun = Gauge(
            "zrepl_control_request_begin",
            "number of requests on the control socket, /status aside",
            ("endpoint",),
            registry=registry,
        )
        self._requests = Histogram(
            "zrepl_control_request_finished",
            "seconds that a request on the control socket took",
            ("endpoint",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._states = Histogram(
            "zrepl_replication_state_time",
            "seconds that an attempt spent in a state",
            ("zrepl_job", "state"),
            buckets=_HOURS_BUCKETS,
            registry=registry,
        )
        self._prunings = Histogram(
            "zrepl_pruning_time",
            "seconds that the pruning of one side took",
            ("zrepl_job", "prune_side"),
            buckets=_HOURS_BUCKETS,
            registry=registry,
        )
        self._destroyed = Counter(
            "zrepl_trio_snapshots_destroyed",
            "snapshots that pruning has destroyed",
            ("zrepl_job", "prune_side"),
            registry=registry,
        )
        self._foreign = Gauge(
            "zrepl_trio_snapshots_unconfirmed",
            "snapshots that the job did not take, and that pruning leaves until somebody confirms it",
            ("zrepl_job", "prune_side"),
            registry=registry,
        )
        self._refused = Counter(
            "zrepl_trio_destroy_refused",
            "snapshots that a client wanted destroyed and that the job's floor keeps",
            ("zrepl_job", "peer"),
            registry=registry,
        )
        self._commands, self._user_times, self._system_times = (
            Histogram(
                f"zrepl_zfscmd_{name}",
                what,
                ("jobid", "zfsbinary", "zfsverb"),
                buckets=_COMMAND_BUCKETS,
                registry=registry,
            )
            for name, what in (
                ("runtime", "seconds that a command took from its start to its end"),
                ("usertime", "CPU seconds of a command in user mode, -1 if that is unknown"),
                ("systemtime", "CPU seconds of a command in the kernel, -1 if that is unknown"),
            )
        )
        self._durations = {
            duration: Histogram(
                f"zrepl_zfs_{duration.value}_duration",
                "seconds that such a command took on the filesystem",
                ("dataset_type", "filesystem") if duration is Duration.DESTROY else ("filesystem",),
                buckets=_GO_BUCKETS,
                registry=registry,
            )
            for duration in Duration
        }
        self._unmatched = Gauge(
            "zrepl_zfs_list_unmatched_user_specified_dataset_count",
            "grows at each listing by the number of filter entries that name no existing dataset",
            ("jobid",),
            registry=registry,
        )
        Gauge(
            "zrepl_trace_active_tasks", "number of tasks in the daemon", registry=registry
        ).set_function(lambda: trio.lowlevel.current_statistics().tasks_living)
        Gauge(
            "zrepl_endpoint_abstractions_cache_entry_count",
            "always 0: holds and bookmarks are not cached, they are read from ZFS",
            registry=registry,
        ).set(0)
        registry.register(self)

    # -- what is told -----------------------------------------------------------------------

    def log_entry(self, entry: Entry) -> None:
        """Something was logged, at whatever level."""
        job = str(entry.fields.get("job", _NO_JOB))
        self._log_entries.labels(job, entry.level.name.lower()).inc()

    def command_ended(self, argv: Sequence[str], seconds: float, usage: Usage | None) -> None:
        """A child of this daemon has ended; called in the context of the job that it worked for."""
        if len(argv) < 2:
            return
        job = structlog.contextvars.get_contextvars().get("job", _NO_JOB)
        labels = (job, os.path.basename(argv[0]), argv[1])
        self._commands.labels(*labels).observe(seconds)
        self._user_times.labels(*labels).observe(usage.user_s if usage else _UNKNOWN)
        self._system_times.labels(*labels).observe(usage.system_s if usage else _UNKNOWN)
        timed = timed_command(argv)
        if timed is not None:
            target = {"filesystem": timed.filesystem}
            if timed.dataset_type:
                target["dataset_type"] = timed.dataset_type
            self._durations[timed.duration].labels(**target).observe(seconds)

    def replicating(self, job: str, report: Report) -> None:
        """See `Watch`."""
        ended = self._totals[job].picture(report, self._monotonic())
        if ended is not None:
            self._states.labels(job, ended.state).observe(ended.seconds)

    def pruned(self, job: str, report: PruneReport) -> None:
        """See `Watch`."""
        side = report.side.value
        if report.finished is not None:
            seconds = (report.finished - report.started).total_seconds()
            self._prunings.labels(job, side).observe(max(0.0, seconds))
        self._destroyed.labels(job, side).inc(report.destroyed)
        if report.was_planned:
            self._foreign.labels(job, side).set(report.foreign)

    def refused(self, job: str, client: str, count: int) -> None:
        """See `Watch`."""
        self._refused.labels(job, client).inc(count)

    def snapshotted(self, job: str, report: SnapperReport) -> None:
        """See `Watch`; `status` tells of them."""
        del job, report

    def run_ended(self, job: str, run: Invocation) -> None:
        """See `Watch`."""
        self._totals[job].ended(run)

    def unmatched(self, job: str, count: int) -> None:
        """See `Watch`."""
        self._unmatched.labels(job).inc(count)

    def timed(self, routes: Mapping[str, Handler]) -> Mapping[str, Handler]:
        """The same routes; all but `/status` are counted and timed, as in zrepl."""

        def around(path: str, handler: Handler) -> Handler:
            def handle(body: bytes) -> object:
                self._requests_begun.labels(path).inc()
                since_s = self._monotonic()
                try:
                    return handler(body)
                finally:
                    self._requests.labels(path).observe(self._monotonic() - since_s)

            return handle

        return {
            path: handler if path == "/status" else around(path, handler)
            for path, handler in routes.items()
        }

    def show_jobs(self, jobs: Callable[[], Sequence[JobStatus]]) -> None:
        """From now on each scrape asks for the jobs' status."""
        self._jobs = jobs

    # -- what is shown ----------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """The families that are made at each scrape, for the registry."""
        jobs = self._jobs()
        for job in jobs:
            if job.type in {JobType.PULL, JobType.PUSH}:
                self._totals[job.name]  # zeros before the first run: dashboards find jobs by them
        yield from run_families(self._totals)
        yield from job_families(jobs)
        yield from shutdown_families(self.shutdowns)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        text = generate_latest(_Plain(self._registry)).decode()
        # The library puts `_total` behind the name of any counter.
        return re.sub(
            rf"^(# (?:HELP|TYPE) (?:{'|'.join(sorted(_COUNTERS))}))_total ",
            r"\1 ",
            text,
            flags=re.MULTILINE,
        ).encode()


class _Plain:
    """A registry's families, with zrepl's counters as such, and without the times of creation that
    the library adds to each histogram as a metric of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            kind = "counter" if family.name in _COUNTERS else family.type
            plain = Metric(family.name, family.documentation, kind)
            plain.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield plain
