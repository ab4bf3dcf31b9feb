"""A daemon's status as text for a person: a pure function of the answer, the time and nothing else.

Errors are shown in full. Their text may come from a peer, so it is escaped before it reaches a
terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.text import Text

from zrepl_trio.amounts import bytes_text, counted, duration_text, rate_text
from zrepl_trio.control.api import (
    AttemptModel,
    FilesystemModel,
    InvocationModel,
    JobModel,
    PruningModel,
    ReplicationModel,
    SnapperModel,
    Status,
)
from zrepl_trio.logs.lines import escape

__all__ = ["status_lines"]

BAR_CELLS = 30
SHARE_THAT_TELLS = 0.01
_LEFT_SHOWN = 3
_PHASE_STYLES = {
    "running": "cyan",
    "waiting": "green",
    "serving": "green",
    "failed": "bold red",
    "stopped": "yellow",
}
_STATE_STYLES = {"done": "green", "planning-error": "red", "step-error": "red", "stepping": "cyan"}
_OUTCOMES = {
    "done": ("all done", "green"),
    "filesystem-errors": ("some filesystem failed", "red"),
    "connect-failed": ("could not connect", "red"),
    "failed": ("failed", "red"),
    "cancelled": ("cancelled", "yellow"),
}


def _indented(text: str, indent: int, style: str) -> Iterator[Text]:
    for line in text.splitlines():
        yield Text(" " * indent + escape(line), style=style)


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0


def _is_older(job: JobModel) -> bool:
    """Whether the replication shown is of a run before the last, which did not come to one."""
    ours, run = job.replication, job.invocation
    return bool(ours and run and ours.start_at and run.start_at and ours.start_at < run.start_at)


def _invocation(run: InvocationModel, job: JobModel, now: datetime) -> Iterator[Text]:
    line = Text(f"  run {run.number}: ")
    if run.outcome:
        text, style = _OUTCOMES.get(run.outcome, (run.outcome, "red"))
        line.append(text, style)
        line.append(f", {duration_text(_seconds(run.finish_at, now))} ago")
        line.append(f", took {duration_text(_seconds(run.start_at, run.finish_at))}")
    else:
        line.append("under way", "cyan")
        line.append(f" for {duration_text(_seconds(run.start_at, now))}")
    attempts = job.replication.attempts if job.replication and not _is_older(job) else ()
    if len(attempts) > 1:
        line.append(f", attempt {len(attempts)}")
    yield line
    # What failed on one filesystem stands with it, below.
    if run.error and run.outcome != "filesystem-errors":
        yield from _indented(run.error, 4, "red")


def _progress(attempt: AttemptModel, now: datetime) -> Iterator[Text]:
    done = sum(filesystem.replicated for filesystem in attempt.filesystems)
    expected = sum(filesystem.expected for filesystem in attempt.filesystems)
    seconds = _seconds(attempt.start_at, attempt.finish_at or now)
    if attempt.finish_at is not None or not expected:
        return
    share = min(1.0, done / expected)
    cells = int(share * BAR_CELLS)
    bar = "=" * cells + (">" if cells < BAR_CELLS else "") + " " * (BAR_CELLS - cells - 1)
    line = Text("  [").append(bar, "cyan").append("]")
    line.append(f" {share:4.0%} {bytes_text(done)} / {bytes_text(expected)}")
    if done and (rate := rate_text(done, seconds)):
        line.append(f" @ {rate}")
        # What little has come by then tells nothing about the rest.
        if share >= SHARE_THAT_TELLS:
            line.append(f", {duration_text(seconds * (expected - done) / done)} left")
    yield line


def _filesystem(filesystem: FilesystemModel, width: int) -> Iterator[Text]:
    steps = filesystem.steps
    active = filesystem.state in {"planning", "stepping"} and filesystem.blocked_on == "nothing"
    line = Text(f"  {'*' if active else ' '} {escape(filesystem.name):<{width}}  ")
    line.append(filesystem.state, _STATE_STYLES.get(filesystem.state, ""))
    if steps:
        position = min(filesystem.current_step + (filesystem.state == "stepping"), len(steps))
        line.append(f" (step {position}/{len(steps)}, {bytes_text(filesystem.replicated)}")
        if filesystem.expected > filesystem.replicated:
            line.append(f"/{bytes_text(filesystem.expected)}")
        line.append(")")
    if filesystem.blocked_on != "nothing":
        line.append(f" waits: {filesystem.blocked_on}", "dim")
    yield line
    if filesystem.error:
        yield from _indented(filesystem.error, 6, "red")
    elif filesystem.state == "stepping" and filesystem.current_step < len(steps):
        step = steps[filesystem.current_step]
        what = f"{step.from_} => {step.to}" if step.from_ else f"full send {step.to}"
        yield Text(f"      next: {escape(what)}{' (resumed)' if step.resumed else ''}", "dim")
    if filesystem.note:
        yield from _indented(filesystem.note, 6, "yellow")


def _replication(replication: ReplicationModel, now: datetime, *, ended: bool) -> Iterator[Text]:
    if replication.wait_reconnect_until is not None and not ended:
        left = duration_text(_seconds(now, replication.wait_reconnect_until))
        yield Text(f"  the link is lost; giving up in {left}", "yellow")
        if replication.wait_reconnect_error:
            yield from _indented(replication.wait_reconnect_error.err, 4, "red")
    if not replication.attempts:
        return
    attempt = replication.attempts[-1]
    yield from _progress(attempt, now)
    if attempt.state == "done" and not attempt.filesystems:
        yield Text("  the other side offers no filesystems", "yellow")
    width = max((len(filesystem.name) for filesystem in attempt.filesystems), default=0)
    for filesystem in attempt.filesystems:
        yield from _filesystem(filesystem, width)


def _snapshots(snapper: SnapperModel, now: datetime, *, stopped: bool) -> Iterator[Text]:
    line = Text("  snapshots: ")
    if snapper.next_at is not None:
        line.append(f"next in {duration_text(_seconds(now, snapper.next_at))}")
    elif stopped:
        line.append("stopped", "yellow")
    else:
        line.append("under way", "cyan")
    done = [each for each in snapper.taken if each.done_at and each.taken]
    if done:
        last = max(each.done_at for each in done if each.done_at)
        line.append(f"; {len(done)} taken {duration_text(_seconds(last, now))} ago")
    if unchanged := sum(each.unchanged for each in snapper.taken):
        line.append(f"; {unchanged} unchanged")
    yield line
    for error in snapper.errors:
        yield from _indented(error, 4, "red")


def _pruning(pruning: PruningModel, now: datetime) -> Iterator[Text]:
    done = sum(each.destroyed for each in pruning.completed)
    listed = (*pruning.completed, *pruning.pending)
    line = Text(f"  pruning ({pruning.side}): ")
    if pruning.finish_at is None:
        going = sum(each.going for each in listed)
        line.append("under way" if listed else "listing", "cyan")
        if listed:
            line.append(f", {done} of {going} snapshots destroyed")
    else:
        failed = bool(pruning.error) or any(each.last_error for each in listed)
        line.append("failed" if failed else "done", "red" if failed else "green")
        line.append(f" {duration_text(_seconds(pruning.finish_at, now))} ago")
        line.append(f", {done} of {sum(each.snapshots for each in listed)} snapshots destroyed")
    left = sum(len(each.left_alone) for each in listed)
    if left:
        line.append(f", {left} left alone", "dim")
    yield line
    if pruning.error:
        yield from _indented(pruning.error, 4, "red")
    for each in listed:
        if each.last_error:
            yield from _indented(each.last_error, 4, "red")
        for one in each.left_alone[:_LEFT_SHOWN]:
            yield Text(f"    {escape(f'{each.filesystem}@{one.name}')}: {escape(one.why)}", "dim")
    foreign = sum(each.foreign for each in listed)
    if foreign:
        what = counted(
            foreign,
            "snapshot that the job did not take is left: `plan --prune` shows it, "
            "`signal wakeup --destroy-foreign` lets it go",
            "snapshots that the job did not take are left: `plan --prune` shows them, "
            "`signal wakeup --destroy-foreign` lets them go",
        )
        yield Text(f"    {what}", "yellow")


def _job(name: str, kind: str, job: JobModel, now: datetime) -> Iterator[Text]:
    head = Text(escape(name), "bold").append(f"  {kind}  ", "dim not bold")
    head.append(job.phase or "unknown", _PHASE_STYLES.get(job.phase, "not bold"))
    if job.phase == "serving":
        clients = f"{job.connections} connection{'' if job.connections == 1 else 's'}"
        head.append(f", {clients}", "not bold")
    if job.phase == "waiting" and kind == "snap":
        if job.snapshots is None or job.snapshots.type == "manual":
            head.append(", takes no snapshots", "not bold")
    elif job.phase == "waiting" and kind in {"push", "pull"}:
        if job.next_wakeup:
            due = f", next run in {duration_text(_seconds(now, job.next_wakeup))}"
        elif job.snapshots is not None and job.snapshots.type != "manual":
            due = ", runs when the snapshots are taken"
        else:
            due = ", runs on `signal wakeup` only"
        head.append(due, "not bold")
    if job.restart_at is not None:
        head.append(f", tried again in {duration_text(_seconds(now, job.restart_at))}", "not bold")
    yield head
    if job.phase == "failed":
        yield from _indented(job.error, 4, "red")
    if job.snapshots is not None and job.snapshots.type != "manual":
        yield from _snapshots(job.snapshots, now, stopped=job.phase in {"failed", "stopped"})
    if job.invocation is not None:
        yield from _invocation(job.invocation, job, now)
    if job.replication is not None:
        if _is_older(job):
            yield Text("  the last run that got as far as replicating:", "dim")
        ended = job.invocation is not None and bool(job.invocation.outcome)
        yield from _replication(job.replication, now, ended=ended or _is_older(job))
    for pruning in job.prunings:
        yield from _pruning(pruning, now)


def status_lines(status: Status, now: datetime) -> Iterator[Text]:
    """The lines to show, with styles; `now` is aware."""
    shown = [name for name in status.raw_jobs if not name.startswith("_")]
    if not shown:
        yield Text("The daemon runs, and its config has no jobs.", "yellow")
    for index, name in enumerate(shown):
        if index:
            yield Text()
        yield from _job(name, status.type_of(name), status.job(name), now)
    if status.global_.commands.active:
        yield Text()
        yield Text("Running now:", "bold")
        for command in status.global_.commands.active:
            since = duration_text(_seconds(command.started_at, now))
            words = escape(" ".join((command.path, *command.args)))
            yield Text(f"  {words}  ({since})", "dim")
    if status.global_.stuck_children:
        yield Text()
        yield Text("Children that ignore SIGKILL (their datasets are left alone):", "bold red")
        for child in status.global_.stuck_children:
            about = f" on {child.dataset}" if child.dataset else ""
            yield Text(f"  pid {child.pid}{about}: {escape(' '.join(child.args))}", "red")
