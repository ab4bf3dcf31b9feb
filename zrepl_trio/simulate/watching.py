"""What a simulation's jobs say of themselves: their runs, their conflicts, their warnings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from zrepl_trio.jobs.base import Invocation, Outcome
from zrepl_trio.logs.lines import Entry, Level
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.report import FilesystemReport, Report
from zrepl_trio.simulate.report import LoggedLine, Trouble

__all__ = ["HostWatch", "LogCounts", "Runs"]

CONFLICT, RUN = "conflict", "run"

_NUMBERS = re.compile(r"\b(?:0x[0-9a-f]+|\d{6,})\b|@\S+")


@dataclass(slots=True)
class _Episode:
    """The same trouble, over and over, until a run goes without it."""

    kind: str
    text: str
    times: int
    first: datetime
    last: datetime
    over: bool = False


@dataclass(slots=True)
class Runs:
    """How many runs a job has had, and how many did not end well."""

    total: int = 0
    failed: int = 0


class HostWatch:
    """The Watch of one host's jobs."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._last: dict[str, Report] = {}
        self._episodes: dict[tuple[str, str], list[_Episode]] = {}
        self.runs: dict[str, Runs] = {}
        self._closed = False

    def close(self) -> None:
        """From now on, nothing counts."""
        self._closed = True

    def replicating(self, job: str, report: Report) -> None:
        self._last[job] = report

    def pruned(self, job: str, report: PruneReport) -> None:
        del job, report  # what went wrong is in the run's error

    def refused(self, job: str, client: str, count: int) -> None:
        del job, client, count  # it is in the log

    def unmatched(self, job: str, count: int) -> None:
        del job, count

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
        # a run that could not even be planned says nothing of any filesystem
        looked_at = {each.name for each in filesystems}
        self._note(job, wrong, looked_at | ({""} if looked_at else set()), run.finished)

    def _note(
        self, job: str, wrong: Mapping[str, tuple[str, str]], looked_at: set[str], when: datetime
    ) -> None:
        for (of, name), episodes in self._episodes.items():
            if of == job and name in looked_at and name not in wrong:
                episodes[-1].over = True
        for name, (kind, text) in wrong.items():
            episodes = self._episodes.setdefault((job, name), [])
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

    def troubles(self) -> list[Trouble]:
        """All that went wrong; what ended by itself, too."""
        return [
            Trouble(
                kind=each.kind,
                host=self._host,
                job=job,
                filesystem=name,
                text=each.text,
                times=each.times,
                first=each.first,
                last=each.last,
                lasts=not each.over,
            )
            for (job, name), episodes in self._episodes.items()
            for each in episodes
        ]


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
        alike = " ".join(
            _alike(f"{name}={value}")
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
