"""`zrepl-trio check`: the daemon's state for Nagios, Icinga and their kin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import typer

from zrepl_trio.children import open_processes
from zrepl_trio.cli import running
from zrepl_trio.cli.verdict import BY_ZFS, Finding, JobFacts, Limit, State, Verdict, judge
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import load_config
from zrepl_trio.config.model import Config, PullJob, SinkJob, SourceJob
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.control.api import Status
from zrepl_trio.control.client import open_control_client
from zrepl_trio.control.faults import DaemonDown
from zrepl_trio.errors import Refused, ZreplError, leaves
from zrepl_trio.jobs.build import local_side
from zrepl_trio.jobs.hostzfs import host_zfs
from zrepl_trio.jobs.world import World
from zrepl_trio.logs.lines import escape

__all__ = ["check_command", "verdict_text"]


def check_command(
    config: Path | None, jobs: Sequence[str], *, max_age: str, max_lag: str, as_json: bool
) -> None:
    """Print one line and the details, and end with the state as exit status."""
    age = lag = Limit()
    verdict: Verdict
    try:
        age, lag = _limit("--max-age", max_age), _limit("--max-lag", max_lag)
        verdict = running.run(partial(_verdict, load_config(config).config, jobs, age=age, lag=lag))
    except (ZreplError, ExceptionGroup) as error:
        found = list(leaves(error))
        if not all(isinstance(leaf, ZreplError) for leaf in found):
            raise
        # No daemon is no backup, whatever the cause; else it is only we who cannot tell.
        down = any(isinstance(leaf, DaemonDown) for leaf in found)
        state = State.CRITICAL if down else State.UNKNOWN
        findings = tuple(Finding(state, "check", str(leaf)) for leaf in found)
        verdict = Verdict(jobs=0, datasets=0, findings=findings)
    print(json.dumps(_document(verdict)) if as_json else verdict_text(verdict, age=age, lag=lag))
    raise typer.Exit(verdict.state)


def _limit(option: str, text: str) -> Limit:
    if not text:
        return Limit()
    try:
        return Limit.parse(text)
    except ScalarError as error:
        accepted = f" (accepted: {error.accepted})" if error.accepted else ""
        raise Refused(f"{option}: {error.message}{accepted}") from None


async def _verdict(config: Config, names: Sequence[str], *, age: Limit, lag: Limit) -> Verdict:
    async with open_control_client(str(config.global_.control.sockpath)) as client:
        status = await client.status()
    there = [name for name in status.raw_jobs if not name.startswith("_")]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise Refused(
            f"the daemon has no job {', '.join(unknown)} (its jobs: {', '.join(there) or 'none'})"
        )
    facts = [
        await _facts(config, status, name, ages=age.given) for name in dict.fromkeys(names or there)
    ]
    return judge(facts, age=age, lag=lag, now=SystemClock().now().timestamp())


async def _facts(config: Config, status: Status, name: str, *, ages: bool) -> JobFacts:
    told, kind = status.job(name), status.type_of(name)
    newest: Mapping[str, int | None] = {}
    # A run has told an active job all; before a pull's first one, and where the other side acts,
    # only ZFS knows. A push before its first run cannot know what the other side has.
    if ages and (kind in BY_ZFS or (kind == "pull" and not told.datasets)):
        newest = await _from_zfs(config, name)
    return JobFacts(name=name, type=kind, told=told, newest=newest)


async def _from_zfs(config: Config, name: str) -> Mapping[str, int | None]:
    """The time of the newest snapshot of each dataset that the job keeps or offers here."""
    section = config.job(name)
    if not isinstance(section, PullJob | SinkJob | SourceJob):
        raise Refused(f"job {name}: the daemon runs with another config than the one given")
    async with open_processes() as processes:
        side = local_side(section, World(clock=SystemClock(), zfs=host_zfs(config, processes)))
        paths = [each.path for each in await side.list_filesystems() if not each.is_placeholder]
        listed = await side.list_versions_of(paths)
    return {
        path: max((v.creation for v in versions if v.is_snapshot), default=None)
        for path, versions in listed.items()
    }


def verdict_text(verdict: Verdict, *, age: Limit, lag: Limit) -> str:
    """The summary with its performance data, then a line for each finding."""
    data = [
        f"{name}={value:.0f}s;{_threshold(limit.warning_s)};{_threshold(limit.critical_s)};0"
        for name, value, limit in (("age", verdict.age_s, age), ("lag", verdict.lag_s, lag))
        if value is not None
    ]
    data.append(f"problems={len(verdict.findings)};;;0")
    # A bar would begin the performance data.
    summary = verdict.summary.replace("|", "/")
    lines = [f"ZREPL {verdict.state.name} - {summary} | {' '.join(data)}"]
    for finding in sorted(verdict.findings, key=lambda f: -f.state.weight):
        text = escape(finding.text.replace("\n", "; ")).replace("|", "/")
        lines.append(f"{finding.state.name} {escape(finding.job)}: {text}")
    return "\n".join(lines)


def _threshold(seconds: float) -> str:
    return "" if math.isinf(seconds) else f"{seconds:.0f}"


def _document(verdict: Verdict) -> Mapping[str, object]:
    return {
        "state": verdict.state.name,
        "code": int(verdict.state),
        "summary": verdict.summary,
        "jobs": verdict.jobs,
        "datasets": verdict.datasets,
        "age_s": verdict.age_s,
        "lag_s": verdict.lag_s,
        "findings": [
            {"state": f.state.name, "job": f.job, "text": f.text} for f in verdict.findings
        ],
    }
