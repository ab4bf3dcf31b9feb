"""The reports of a run as lines of news, for `run --once`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from zrepl_trio.amounts import bytes_text, counted
from zrepl_trio.logs.lines import escape
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.report import AttemptReport, FilesystemReport, FilesystemState, Report

__all__ = ["BYTES_EVERY_S", "ProgressLines", "news", "pruning_news"]

BYTES_EVERY_S = 2.0
"""How often a step under way tells its bytes."""


def _step_name(filesystem: FilesystemReport, index: int) -> str:
    step = filesystem.steps[index]
    what = f"{step.from_} => {step.to}" if step.from_ else f"full send {step.to}"
    resumed = " (resumed)" if step.resumed else ""
    return f"step {index + 1}/{len(filesystem.steps)}, {what}{resumed}"


def _filesystem_news(before: FilesystemReport | None, after: FilesystemReport) -> Iterator[str]:
    name = escape(after.name)
    if after.note and (before is None or before.note != after.note):
        yield f"{name}: {after.note}"
    for index in range(before.current if before else 0, after.current):
        moved = bytes_text(after.steps[index].replicated)
        yield f"{name}: {escape(_step_name(after, index))}: {moved}"
    if after.error and (before is None or before.error != after.error):
        yield f"{name}: FAILED: {after.error.text}"
    finished = after.state is FilesystemState.DONE
    if finished and not after.steps and (before is None or before.state is not after.state):
        yield f"{name}: up to date"


def _attempt_news(before: AttemptReport | None, after: AttemptReport) -> Iterator[str]:
    known = {filesystem.name: filesystem for filesystem in before.filesystems} if before else {}
    for filesystem in after.filesystems:
        yield from _filesystem_news(known.get(filesystem.name), filesystem)


def news(before: Report | None, after: Report) -> list[str]:
    """What `after` tells that `before` did not; one text an event, perhaps of several lines."""
    lines: list[str] = []
    old = before.attempts if before else ()
    for index, attempt in enumerate(after.attempts):
        if index and index >= len(old):
            lines.append(f"attempt {index + 1}")
        lines += _attempt_news(old[index] if index < len(old) else None, attempt)
    waits = after.wait_until is not None and (before is None or before.wait_until is None)
    if waits and after.wait_error is not None:
        lines.append(f"waiting for the link: {after.wait_error.text}")
    return lines


def pruning_news(report: PruneReport) -> Iterator[str]:
    """What a side's pruning has come to; nothing before its end."""
    if report.finished is None:
        return
    where = f"pruning ({report.side.value})"
    for each in report.completed:
        if each.destroyed:
            of = f"{each.destroyed} of {each.snapshots} snapshots destroyed"
            yield f"{where}: {escape(each.path)}: {of}"
    by_floor = [(path, one) for path, one in report.left_alone if one.by_floor]
    others = [(path, one) for path, one in report.left_alone if not one.by_floor]
    for left in filter(None, (by_floor, others)):
        path, first = left[0]
        more = ", the first" if len(left) > 1 else ""
        what = escape(f"{path}@{first.name}: {first.why}")
        yield f"{where}: {len(left)} left alone{more}: {what}"
    if report.foreign:
        what = counted(
            report.foreign,
            "snapshot that the job did not take is left: `plan --prune` shows it, --destroy-foreign lets it go",
            "snapshots that the job did not take are left: `plan --prune` shows them, --destroy-foreign "
            "lets them go",
        )
        yield f"{where}: {what}"
    for error in report.errors:
        yield f"{where}: FAILED: {escape(error)}"


@dataclass(slots=True)
class ProgressLines:
    """Takes reports one after the other and says the news; `monotonic` gives seconds."""

    say: Callable[[str], None]
    monotonic: Callable[[], float]
    _last: Report | None = None
    _said_bytes_at: float = field(default=float("-inf"))

    def __call__(self, picture: Report | PruneReport) -> None:
        if isinstance(picture, PruneReport):
            for line in pruning_news(picture):
                self.say(line)
            return
        self._replicating(picture)

    def _replicating(self, report: Report) -> None:
        lines = news(self._last, report)
        self._last = report
        now = self.monotonic()
        if not lines and now - self._said_bytes_at >= BYTES_EVERY_S and report.last is not None:
            for filesystem in report.last.filesystems:
                if filesystem.state is FilesystemState.STEPPING and filesystem.replicated:
                    lines.append(self._moving(filesystem))
        if lines:
            self._said_bytes_at = now
        for line in lines:
            self.say(line)

    @staticmethod
    def _moving(filesystem: FilesystemReport) -> str:
        index = min(filesystem.current, len(filesystem.steps) - 1)
        step = filesystem.steps[index]
        # an estimate that is exceeded would say nothing but that it is one
        of = f" of {bytes_text(step.expected)}" if step.expected >= step.replicated else ""
        name = escape(f"{filesystem.name}: {_step_name(filesystem, index)}")
        return f"{name}: {bytes_text(step.replicated)}{of} so far"
