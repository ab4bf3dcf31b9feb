"""What a simulation's jobs say of themselves: their runs, their conflicts, their snapshots, what they leave for
somebody to decide, their warnings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

from zrepl_trio.jobs.base import Invocation, Outcome
from zrepl_trio.logs.lines import Entry, Level
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.report import FilesystemPruneReport, PruneReport
from zrepl_trio.replication.report import FilesystemReport, Report
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.simulate.report import (
    CONFLICT,
    PRUNING,
    RUN,
    SNAPSHOT,
    FloorStory,
    LoggedLine,
    Trouble,
)
from zrepl_trio.snapshots.report import SnapperReport

__all__ = ["HostWatch", "LogCounts", "Runs"]

_NUMBERS = re.compile(r"\b0x[0-9a-f]+\b|\d{6,}|@\S+")


@dataclass(slots=True)
class _Episode:
    """The same trouble, over and over, until a run goes without it."""

    kind: str
    text: str
    times: int
    first: datetime
    last: datetime
    over: bool = False


class _Part(NamedTuple):
    """Part of a job's work: what one says does not end what another has said."""

    job: str
    of: str


_Place: TypeAlias = tuple[_Part, str]
"""And a filesystem, empty for all of it."""


@dataclass(slots=True)
class Runs:
    """How many runs a job has had, and how many did not end well."""

    total: int = 0
    failed: int = 0


class HostWatch:
    """The Watch of one host's jobs."""

    def __init__(self, host: str, clock: SimulatedClock) -> None:
        self._host = host
        self._clock = clock
        self._last: dict[str, Report] = {}
        self._episodes: dict[_Place, list[_Episode]] = {}
        self._floors: dict[tuple[str, str], FloorStory] = {}
        self.runs: dict[str, Runs] = {}
        self._closed = False

    def close(self) -> None:
        """From now on, nothing counts."""
        self._closed = True

    def replicating(self, job: str, report: Report) -> None:
        self._last[job] = report

    def snapshotted(self, job: str, report: SnapperReport) -> None:
        if self._closed:
            return
        wrong: dict[str, tuple[str, str]] = {
            each.path: (SNAPSHOT, each.error) for each in report.progress if each.error
        }
        if report.error:
            wrong[""] = (SNAPSHOT, report.error)
        if not wrong and not self._episodes:
            return
        # what could not be listed may be as wrong as it was
        looked_at = None if not report.error else {"", *(each.path for each in report.progress)}
        self._note(_Part(job, SNAPSHOT), wrong, looked_at, self._clock.now())

    def pruned(self, job: str, report: PruneReport) -> None:
        # what failed is in the run's error; what waits for a word fails nothing
        if self._closed or not report.was_planned:
            return
        if not report.foreign and not self._episodes:
            return
        side = "" if report.side is PruneSide.LOCAL else f" on the {report.side.value}"
        wrong: dict[str, tuple[str, str]] = {
            each.path: (PRUNING, _left(job, side, each))
            for each in (*report.pending, *report.completed)
            if each.foreign
        }
        self._note(_Part(job, f"{PRUNING}{side}"), wrong, None, self._clock.now())

    def refused(self, job: str, client: str, count: int) -> None:
        if self._closed:
            return
        now = self._clock.now()
        before = self._floors.get((job, client))
        self._floors[job, client] = FloorStory(
            host=self._host,
            job=job,
            client=client,
            times=before.times + 1 if before else 1,
            most=max(count, before.most) if before else count,
            first=before.first if before else now,
            last=now,
        )

    def unmatched(self, job: str, count: int) -> None:
        del job, count  # what a filter names is there from the start

    def run_ended(self, job: str, run: Invocation) -> None:
        if self._closed:
            return
        runs = self.runs.setdefault(job, Runs())
        runs.total += 1
        failed = run.outcome is not Outcome.DONE
        runs.failed += failed
        report = self._last.pop(job, None)
        if not failed and not self._episodes:
            return
        wrong: dict[str, tuple[str, str]] = {}
        attempt = report.last if report is not None else None
        filesystems: tuple[FilesystemReport, ...] = attempt.filesystems if attempt else ()
        for each in filesystems:
            if each.error is not None:
                kind = CONFLICT if each.plan_error is not None else RUN
                wrong[each.name] = (kind, each.error.text)
        if failed and not wrong:
            wrong[""] = (RUN, run.error)
        assert run.finished is not None
        looked_at: set[str] | None = None  # nothing at all is wrong after a run that went well
        if failed:
            # one that could not even be planned says nothing of any filesystem
            looked_at = {each.name for each in filesystems}
            looked_at |= {""} if looked_at else set()
        self._note(_Part(job, RUN), wrong, looked_at, run.finished)

    def _note(
        self,
        part: _Part,
        wrong: Mapping[str, tuple[str, str]],
        looked_at: Set[str] | None,
        when: datetime,
    ) -> None:
        """What is wrong now in this part of a job's work, by filesystem; None: all of them were `looked_at`."""
        for (of, name), episodes in self._episodes.items():
            seen = looked_at is None or name in looked_at
            if of == part and seen and name not in wrong:
                episodes[-1].over = True
        for name, (kind, text) in wrong.items():
            episodes = self._episodes.setdefault((part, name), [])
            last = episodes[-1] if episodes else None
            # what is in the way of a conflict's filesystem may be told anew with every snapshot
            same = last is not None and kind == last.kind
            if kind == RUN:
                same = same and last is not None and _alike(last.text) == _alike(text)
            if last is None or last.over or not same:
                if last is not None:
                    last.over = True
                episodes.append(_Episode(kind, text, 1, when, when))
            else:
                last.times += 1
                last.last, last.text = when, text

    def floors(self) -> list[FloorStory]:
        """What clients wanted destroyed and a floor keeps."""
        return list(self._floors.values())

    def troubles(self) -> list[Trouble]:
        """All that went wrong; what ended by itself, too."""
        return [
            Trouble(
                kind=each.kind,
                host=self._host,
                job=part.job,
                filesystem=name,
                text=each.text,
                times=each.times,
                first=each.first,
                last=each.last,
                lasts=not each.over,
            )
            for (part, name), episodes in self._episodes.items()
            for each in episodes
        ]


def _left(job: str, side: str, report: FilesystemPruneReport) -> str:
    snapshots = f"{report.foreign} snapshot{'s' if report.foreign != 1 else ''}{side}"
    return (
        f"{report.path}: {snapshots} that the job did not take: left until somebody confirms that they go "
        f"(`zrepl-trio plan --prune {job}` shows them)"
    )


def _alike(text: str) -> str:
    """The text without what differs from one run to the next."""
    return _NUMBERS.sub("…", text)


class LogCounts:
    """Warnings and errors, the same ones counted together."""

    def __init__(self) -> None:
        self._lines: dict[tuple[Level, str, str, str], LoggedLine] = {}

    def add(self, entry: Entry) -> None:
        if entry.level < Level.WARN:
            return
        fields = dict(entry.fields)
        host, job = str(fields.pop("host", "")), str(fields.pop("job", ""))
        fields.pop("subsystem", None)
        rest = " ".join(f"{name}={value}" for name, value in fields.items() if name != "traceback")
        text = f"{entry.msg} {rest}".rstrip()
        # below its first line, a text goes into details: of a conflict, which snapshots there are
        alike = " ".join(
            _alike(f"{name}={value}".partition("\n")[0])
            for name, value in fields.items()
            if name != "traceback" and not isinstance(value, int | float)
        )
        key = (entry.level, host, job, f"{entry.msg} {alike}")
        before = self._lines.get(key)
        self._lines[key] = LoggedLine(
            level=entry.level.name.lower(),
            host=host,
            job=job,
            text=before.text if before else text,
            times=before.times + 1 if before else 1,
            first=before.first if before else entry.time,
            last=entry.time,
        )

    def lines(self) -> tuple[LoggedLine, ...]:
        """In the order in which they first came."""
        return tuple(self._lines.values())
