"""What the daemon says on the control socket: zrepl's documents (behaviour reference 6.7), with a few keys
more. `api` reads them.

The environment, which zrepl shows to whoever may ask, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from zrepl_trio.jobs.base import Invocation, JobStatus, JobType
from zrepl_trio.jobs.tracked import ActiveChild
from zrepl_trio.process import StuckChild
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.replication.report import JsonValue

__all__ = ["UNSET", "status_document", "version_document"]

UNSET = "0001-01-01T00:00:00Z"
"""zrepl's time that never was."""


def _time(time: datetime | None) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else UNSET


def _invocation(invocation: Invocation | None) -> JsonValue:
    if invocation is None:
        return None
    return {
        "Number": invocation.number,
        "StartAt": _time(invocation.started),
        "FinishAt": _time(invocation.finished),
        "Outcome": invocation.outcome.value if invocation.outcome else "",
        "Error": invocation.error,
    }


def _pruning(job: JobStatus, side: PruneSide) -> JsonValue:
    found = next((report for report in job.pruning if report.side is side), None)
    return found.to_json(_time) if found is not None else None


def _job(job: JobStatus) -> JsonValue:
    ours: dict[str, JsonValue] = {
        "Phase": job.phase.value,
        "Error": job.error,
        "Failures": job.failures,
        "RestartAt": _time(job.restart_at),
        "Datasets": [
            {
                "Name": each.dataset,
                "Peer": each.peer,
                "NewestSnapshot": each.times.newest,
                "ReplicatedSnapshot": each.times.replicated,
            }
            for each in job.freshness
        ],
    }
    payload: dict[str, JsonValue]
    match job.type:
        case JobType.PUSH | JobType.PULL:
            payload = {
                "Replication": job.replication.to_json() if job.replication else None,
                "PruningSender": _pruning(job, PruneSide.SENDER),
                "PruningReceiver": _pruning(job, PruneSide.RECEIVER),
                "Snapshotting": job.snapshots.to_json(_time) if job.snapshots else None,
                "Invocation": _invocation(job.invocation),
                "LastRun": _invocation(job.last_run),
                "NextWakeup": _time(job.next_wakeup),
            }
        case JobType.SINK:
            payload = {"Snapper": None, "Connections": job.connections}
        case JobType.SOURCE:
            payload = {
                "Snapper": job.snapshots.to_json(_time) if job.snapshots else None,
                "Connections": job.connections,
            }
        case JobType.SNAP:
            payload = {
                "Pruning": _pruning(job, PruneSide.LOCAL),
                "Snapshotting": job.snapshots.to_json(_time) if job.snapshots else None,
                "Invocation": _invocation(job.invocation),
                "LastRun": _invocation(job.last_run),
                "NextWakeup": _time(job.next_wakeup),
            }
    return {"type": job.type.value, job.type.value: {**payload, **ours}}


def status_document(
    jobs: Sequence[JobStatus],
    *,
    active: Sequence[ActiveChild],
    stuck: Sequence[StuckChild],
    version: str,
    started: datetime,
    internal: Sequence[str] = (),
) -> JsonValue:
    """The answer of `/status`. `internal` names what zrepl runs as jobs of its own, and lists first."""
    ours: dict[str, JsonValue] = {name: {"type": "internal", "internal": None} for name in internal}
    return {
        "Jobs": {**ours, **{job.name: _job(job) for job in jobs}},
        "Global": {
            "ZFSCmds": {
                "Active": [
                    {
                        "Path": child.argv[0],
                        "Args": list(child.argv[1:]),
                        "StartedAt": _time(child.started),
                    }
                    for child in active
                ]
            },
            "Envconst": {"Entries": []},
            "OsEnviron": [],
            "Version": version,
            "StartAt": _time(started),
            "StuckChildren": [
                {"Pid": child.pid, "Args": list(child.argv), "Dataset": child.dataset}
                for child in stuck
            ],
        },
    }


def version_document(version: str, *, os_name: str, machine: str, python: str) -> JsonValue:
    """The answer of `/version`; where zrepl tells of Go, it tells of Python."""
    return {
        "Version": version,
        "RuntimeGo": python,
        "RuntimeGOOS": os_name,
        "RuntimeGOARCH": machine,
        "RUNTIMECompiler": python.partition(" ")[0],
    }
