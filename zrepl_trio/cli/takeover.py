"""`zrepl-trio takeover`: what would become of a host that zrepl ran, looked at and left as it is."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.cli.localzfs import with_zfs
from zrepl_trio.config.differences import differences
from zrepl_trio.config.environment import ignored, read_tuning
from zrepl_trio.config.load import load_config
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import Config, Job, PullJob, PushJob, SinkJob, SnapJob, SourceJob
from zrepl_trio.config.support import unsupported, without_effect
from zrepl_trio.config.transport import StdinserverServe, TlsServe
from zrepl_trio.control.alone import refuse_live_daemon
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.endpoint.survey import Survey, look
from zrepl_trio.endpoint.takeover import (
    Finding,
    Outlook,
    judge_replica,
    judge_source,
    of_other_jobs,
)
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.build import runtime_directory
from zrepl_trio.transport.privatedir import check_private_directory
from zrepl_trio.zfs.model import Dataset
from zrepl_trio.zfs.names import DatasetPath, check_identity
from zrepl_trio.zfs.port import Zfs

__all__ = ["JobReport", "Report", "survey_jobs", "takeover", "takeover_command", "text_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """What one job finds. `others` counts the holds and bookmarks of other jobs on its
    filesystems; `remarks` concern the job as a whole, `problem` is why it cannot run at all."""

    name: str
    type: str
    findings: Sequence[Finding] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    problem: str = ""

    @property
    def continues(self) -> bool:
        """Whether nothing in it stands in the way."""
        return not self.problem and all(f.outlook is not Outlook.CANNOT for f in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole answer, as texts where they are only shown."""

    config: str
    socket: str
    notes: Sequence[str]
    refused: Sequence[str]
    jobs: Sequence[JobReport]
    next: Sequence[str]

    @property
    def continues(self) -> bool:
        """Whether `run` starts with this config and no filesystem is in the way."""
        return not self.refused and all(job.continues for job in self.jobs)

    def to_json(self) -> Mapping[str, object]:
        """For programs."""
        return {
            "Config": self.config,
            "ControlSocket": self.socket,
            "Continues": self.continues,
            "Notes": list(self.notes),
            "Refused": list(self.refused),
            "Jobs": [_job_json(job) for job in self.jobs],
            "Next": list(self.next),
        }


def takeover_command(config: Path | None, *, as_json: bool) -> ExitCode:
    """Print the answer. Raises ConfigErrors, DaemonRunning, DaemonUnreachable and ZfsError."""
    loaded = load_config(config)
    report = with_zfs(lambda zfs: takeover(zfs, loaded, environ=os.environ))
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print("\n".join(text_of(report)))
    return ExitCode.DONE if report.continues else ExitCode.FAILED


def _not_private(config: Config) -> Iterator[str]:
    """Directories of the daemon's that zrepl takes as they are, and this does not."""
    for directory in (runtime_directory(config), str(config.global_.serve.stdinserver.sockdir)):
        try:
            check_private_directory(directory)
        except Refused as error:
            yield str(error)


async def takeover(zfs: Zfs, loaded: LoadedConfig, *, environ: Mapping[str, str]) -> Report:
    """The answer for this host; DaemonRunning while a daemon has the control socket. `environ` may
    have variables of zrepl's; Refused for a value that makes no sense."""
    read_tuning(environ)
    socket = str(loaded.config.global_.control.sockpath)
    await refuse_live_daemon(socket)
    return Report(
        config=str(loaded.path),
        socket=socket,
        notes=[
            *map(str, loaded.notes),
            *map(str, differences(loaded)),
            *map(str, without_effect(loaded)),
            *ignored(environ),
        ],
        refused=[*(str(problem) for problem in unsupported(loaded)), *_not_private(loaded.config)],
        jobs=await survey_jobs(zfs, loaded.config),
        next=list(next_steps(loaded.config)),
    )


def next_steps(config: Config) -> Iterator[str]:
    """What a person does when all goes on; docs/takeover.md has it in full."""
    yield "keep zrepl from starting: systemctl disable --now zrepl"
    if any(isinstance(getattr(job, "serve", None), StdinserverServe) for job in config.jobs):
        yield (
            "in authorized_keys let the clients' lines call `zrepl-trio stdinserver` instead of "
            "`zrepl stdinserver`"
        )
    yield (
        "take over the ZREPL_… variables of its unit, if it sets any: "
        "systemctl show -p Environment -p EnvironmentFiles zrepl"
    )
    yield "start zrepl-trio in its place: zrepl-trio run"
    active = any(isinstance(job, PushJob | PullJob) for job in config.jobs)
    yield f"look: {'zrepl-trio plan, and ' if active else ''}zrepl-trio status"
    yield "to go back: stop zrepl-trio, then systemctl enable --now zrepl"


async def survey_jobs(zfs: Zfs, config: Config) -> list[JobReport]:
    """What each job finds, in the config's order."""
    datasets = await zfs.datasets() if config.jobs else []
    concerned = {job.name: _concerned(job, datasets) for job in config.jobs}
    wanted = {each.path: each for some in concerned.values() for each in some}
    survey = await look(zfs, list(wanted.values()))
    there = {each.path for each in datasets}
    known = {job.name for job in config.jobs}
    return [_report(job, concerned[job.name], survey, there, known) for job in config.jobs]


def _concerned(job: Job, datasets: Sequence[Dataset]) -> list[Dataset]:
    match job:
        case SourceJob() | PushJob():
            return [each for each in datasets if job.filesystems.admits(each.path)]
        case PullJob():
            return [each for each in datasets if each.path.is_below(job.root_fs)]
        case SinkJob():
            # root_fs/IDENTITY itself is nobody's replica
            depth = len(DatasetPath.parse(job.root_fs).components) + 1
            return [
                each
                for each in datasets
                if each.path.is_below(job.root_fs) and len(each.path.components) > depth
            ]
        case SnapJob():
            return []


def _report(
    job: Job,
    datasets: Sequence[Dataset],
    survey: Survey,
    there: set[DatasetPath],
    known: set[str],
) -> JobReport:
    if isinstance(job, PullJob | SinkJob) and job.root_fs not in there:
        problem = (
            f"root_fs {job.root_fs} does not exist: create it (`zfs create {job.root_fs}`) or "
            "import its pool"
        )
        return JobReport(name=job.name, type=job.type, problem=problem)
    others: Counter[str] = Counter()
    for each in datasets:
        others += of_other_jobs(survey.abstractions[each.path], job.name)
    remarks = [
        f"job {name!r} is not in this config: if it is gone for good, see "
        f"`zrepl-trio zfs-abstraction list --job '{name}'`"
        for name in sorted(others)
        if name not in known
    ]
    if isinstance(job, SinkJob):
        remarks += _strangers(job, there)
    return JobReport(
        name=job.name,
        type=job.type,
        findings=[_finding(job, each, survey) for each in datasets],
        others=dict(sorted(others.items())),
        remarks=remarks,
    )


def _finding(job: Job, dataset: Dataset, survey: Survey) -> Finding:
    path = dataset.path
    versions, abstractions = survey.versions[path], survey.abstractions[path]
    if isinstance(job, PullJob | SinkJob):
        sent_as = path.relative_to(job.root_fs)
        identity = None
        if isinstance(job, SinkJob):
            identity = check_identity(sent_as.pool)
            sent_as = sent_as.relative_to(sent_as.pool)
        # what no rule of `recv.target` leads to is told by where it lies
        sent_as = Confinement(job.root_fs, identity, job.recv.target).wire(path) or sent_as
        token = survey.tokens.get(path)
        return judge_replica(job.name, dataset, sent_as, versions, abstractions, token)
    return judge_source(job.name, dataset, versions, abstractions)


def _strangers(job: SinkJob, there: set[DatasetPath]) -> Iterator[str]:
    match job.serve:
        case StdinserverServe():
            clients = set(job.serve.client_identities)
        case TlsServe():
            clients = set(job.serve.client_cns)
        case _:
            return  # by address, or named by the jobs that connect
    for path in sorted(there):
        if path.parent == job.root_fs and path.components[-1] not in clients:
            yield f"{path} is no client's of this job: it stays as it is"


def text_of(report: Report) -> Iterator[str]:
    """The answer for people, line by line."""
    yield f"{report.config}: no daemon answers on {report.socket}"
    for title, lines in (
        ("Read differently from zrepl:", report.notes),
        ("`zrepl-trio run` will refuse this:", report.refused),
    ):
        if lines:
            yield ""
            yield title
            yield from (f"  {line}" for line in lines)
    for job in report.jobs:
        yield ""
        yield from _job_text(job)
    yield ""
    if report.continues:
        yield "Nothing was changed. Next:"
        yield from (f"  {number}. {step}" for number, step in enumerate(report.next, 1))
    else:
        yield "Nothing was changed. First mend what is refused or cannot continue, and look again."


def _job_text(job: JobReport) -> Iterator[str]:
    counts = Counter(finding.outlook for finding in job.findings)
    summary = ", ".join(f"{counts[each]} {each.value}" for each in Outlook if counts[each])
    if job.type == "snap":
        summary = "it replicates nothing"
    yield f"job {job.name!r} ({job.type}): {job.problem or summary or 'no filesystem yet'}"
    for finding in job.findings:
        why = f" {finding.why}" if finding.outlook in _READS_ON else f": {finding.why}"
        yield f"  {finding.dataset}: {finding.outlook.value}{why}"
        yield from (f"      {item}" for item in finding.found)
        if finding.next:
            yield f"      next: {finding.next}"
    if job.others:
        counted = ", ".join(f"{name!r} {count}" for name, count in job.others.items())
        yield f"  holds and bookmarks of other jobs, never touched: {counted}"
    yield from (f"  {remark}" for remark in job.remarks)


_READS_ON = frozenset({Outlook.CONTINUES})


def _job_json(job: JobReport) -> Mapping[str, object]:
    return {
        "Name": job.name,
        "Type": job.type,
        "Problem": job.problem,
        "Filesystems": [
            {
                "Name": finding.dataset,
                "Outlook": finding.outlook.name.lower(),
                "Why": finding.why,
                "Found": list(finding.found),
                "Next": finding.next,
            }
            for finding in job.findings
        ],
        "OtherJobs": dict(job.others),
        "Remarks": list(job.remarks),
    }
