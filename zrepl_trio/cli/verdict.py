"""What `check` makes of a daemon's status: a verdict in the words of Nagios. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from zrepl_trio.amounts import counted, duration_text
from zrepl_trio.config.scalars import ScalarError, parse_duration
from zrepl_trio.control.api import DatasetModel, JobModel
from zrepl_trio.logs.lines import escape

__all__ = ["BY_ZFS", "Finding", "JobFacts", "Limit", "State", "Verdict", "judge"]


BY_ZFS = frozenset({"source", "sink"})
"""Types of job that ZFS is asked about: what they have here is not the daemon's doing."""


class State(IntEnum):
    """Nagios' states; the value is the exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def weight(self) -> int:
        """Which of two counts: what is bad for sure before what nobody knows."""
        return (0, 1, 3, 2)[self]


@dataclass(frozen=True, slots=True)
class Limit:
    """Seconds from which a value is a warning, and critical; infinite: never."""

    warning_s: float = math.inf
    critical_s: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Limit:
        """`WARN/CRIT`, or `CRIT` alone; ScalarError otherwise."""
        first, slash, second = text.partition("/")
        if not slash:
            return cls(critical_s=parse_duration(first))
        limit = cls(parse_duration(first), parse_duration(second))
        if limit.warning_s > limit.critical_s:
            raise ScalarError(f"{text!r}: a warning must not come after the critical", "WARN/CRIT")
        return limit

    @property
    def given(self) -> bool:
        return not math.isinf(self.critical_s)

    def state(self, value_s: float) -> State:
        if value_s >= self.critical_s:
            return State.CRITICAL
        return State.WARNING if value_s >= self.warning_s else State.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What is known of one job. `newest` is the time of each dataset's newest snapshot on this
    host, as ZFS was asked for it (None: it has none); empty where it was not asked."""

    name: str
    type: str
    told: JobModel
    newest: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    state: State
    job: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All of it. The greatest age and lag are None where none is known."""

    jobs: int
    datasets: int
    findings: tuple[Finding, ...]
    age_s: float | None = None
    lag_s: float | None = None

    @property
    def state(self) -> State:
        return max((f.state for f in self.findings), key=lambda s: s.weight, default=State.OK)

    @property
    def summary(self) -> str:
        """One line: the worst finding, or what was looked at."""
        worst = [f for f in self.findings if f.state is self.state]
        if worst:
            more = len(self.findings) - 1
            first = f"{escape(worst[0].job)}: {escape(worst[0].text.splitlines()[0])}"
            return f"{first}{f' (and {more} more)' if more else ''}"
        oldest = f", oldest snapshot {duration_text(self.age_s)}" if self.age_s is not None else ""
        return f"{self.jobs} jobs, {self.datasets} datasets{oldest}"


_OUTCOMES = {
    "filesystem-errors": (State.CRITICAL, "the last run failed for some filesystem"),
    "failed": (State.CRITICAL, "the last run failed"),
    "connect-failed": (State.WARNING, "the last run could not connect"),
    "cancelled": (State.WARNING, "the last run was cancelled"),
}


def judge(jobs: Sequence[JobFacts], *, age: Limit, lag: Limit, now: float) -> Verdict:
    """The verdict on `jobs` at `now`, in seconds since the epoch."""
    findings: list[Finding] = []
    ages: list[float] = []
    lags: list[float] = []
    datasets = 0
    for job in jobs:
        findings += _run_findings(job)
        times = _snapshots(job)
        datasets += len(times) or len({each.name for each in job.told.datasets})
        for name, taken in times.items():
            if taken is None:
                if age.given:
                    text = f"{name}: there is no {_copy(job)}"
                    findings.append(Finding(State.CRITICAL, job.name, text))
                continue
            # a snapshot of the future, by another host's clock, is a new one
            seconds = max(0.0, now - taken)
            ages.append(seconds)
            text = f"{name}: the newest {_copy(job)} is {duration_text(seconds)} old"
            findings.append(Finding(age.state(seconds), job.name, text))
        for each in job.told.datasets:
            behind = _lag_s(each)
            if behind is None:
                continue
            if not math.isinf(behind):
                lags.append(behind)
            of = f"{each.name} at {each.peer}" if each.peer else each.name
            how = "not replicated yet" if math.isinf(behind) else f"{duration_text(behind)} behind"
            if lag.given:
                findings.append(Finding(lag.state(behind), job.name, f"{of}: {how}"))
    return Verdict(
        jobs=len(jobs),
        datasets=datasets,
        findings=tuple(f for f in findings if f.state is not State.OK),
        age_s=max(ages, default=None),
        lag_s=max(lags, default=None),
    )


def _run_findings(job: JobFacts) -> Iterator[Finding]:
    told = job.told
    if told.phase in {"failed", "stopped"}:
        yield Finding(State.CRITICAL, job.name, f"does not run: {told.error or told.phase}")
    elif told.phase == "starting":
        yield Finding(State.WARNING, job.name, "is still starting")
    for error in told.snapshots.errors if told.snapshots is not None else ():
        yield Finding(State.CRITICAL, job.name, f"snapshots: {error}")
    if skipped := told.snapshots.skipped if told.snapshots is not None else 0:
        times = "1 time" if skipped == 1 else f"{skipped} times"
        text = f"snapshots: {times} of the cron spec passed during the last run, without any"
        yield Finding(State.WARNING, job.name, text)
    foreign = sum(each.foreign for side in told.prunings for each in side.completed)
    if foreign:
        text = counted(
            foreign,
            "snapshot that the job did not take waits for somebody's word to go",
            "snapshots that the job did not take wait for somebody's word to go",
        )
        yield Finding(State.WARNING, job.name, text)
    run = told.last_run
    if run is not None and run.outcome in _OUTCOMES:
        state, text = _OUTCOMES[run.outcome]
        yield Finding(state, job.name, f"{text}: {run.error}" if run.error else text)


def _copy(job: JobFacts) -> str:
    return "snapshot" if job.type in BY_ZFS else "replicated snapshot"


def _snapshots(job: JobFacts) -> Mapping[str, int | None]:
    """When the newest snapshot of each dataset on this host was taken; what ZFS says wins, and is
    asked only where the daemon cannot know."""
    if job.newest or job.type in BY_ZFS:
        return job.newest
    return {
        each.name: each.replicated_snapshot
        for each in job.told.datasets
        if each.newest_snapshot is not None or each.replicated_snapshot is not None
    }


def _lag_s(dataset: DatasetModel) -> float | None:
    if dataset.newest_snapshot is None:
        return None
    if dataset.replicated_snapshot is None:
        return math.inf
    return max(0, dataset.newest_snapshot - dataset.replicated_snapshot)
