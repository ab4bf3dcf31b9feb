"""Jobs of one config that get in each other's way on the same datasets.

Two jobs may well mean the same filesystems: one takes snapshots, others send them. So only what
does harm is told: snapshots taken twice, those of one job destroyed by another's pruning, and
replicas that are snapshotted or sent round in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeAlias, assert_never

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.keep import (
    KeepCalendar,
    KeepGrid,
    KeepLastN,
    KeepNotReplicated,
    KeepRegex,
    KeepRule,
)
from zrepl_trio.config.model import Config, PullJob, PushJob, SinkJob, SnapJob, SourceJob
from zrepl_trio.config.rules import ManualSnapshotting
from zrepl_trio.config.transport import (
    LocalConnect,
    LocalServe,
    SshStdinserverConnect,
    TcpConnect,
    TlsConnect,
)
from zrepl_trio.zfs.filter import FilesystemFilter

__all__ = ["overlaps"]

_Receiving: TypeAlias = PullJob | SinkJob
_Sending: TypeAlias = PushJob | SourceJob | SnapJob

_UNDO = "and two jobs that receive into one place can undo each other's work"
_SAME_REPLICA = "what one of them sends leaves the other's cursor behind, and their pruning works on the same replicas"
_SOME_DAY = datetime(2020, 6, 1, tzinfo=UTC)


def overlaps(config: Config) -> Iterator[tuple[Loc, str]]:
    """Where, and what."""
    yield from _roots(config)
    yield from _replicas(config)
    yield from _snapshots(config)
    yield from _pruned_twice(config)
    yield from _destinations(config)


def _roots(config: Config) -> Iterator[tuple[Loc, str]]:
    seen: list[tuple[str, str]] = []
    for index, job in enumerate(config.jobs):
        if not isinstance(job, _Receiving):
            continue
        for name, root in seen:
            if job.root_fs.is_at_or_below(root) or f"{root}/".startswith(f"{job.root_fs}/"):
                yield ("jobs", index, "root_fs"), f"overlaps {root} of job {name!r}, {_UNDO}"
        seen.append((job.name, job.root_fs))


def _replicas(config: Config) -> Iterator[tuple[Loc, str]]:
    """Filters of senders that let in what a receiver of the same host receives."""
    receivers = [job for job in config.jobs if isinstance(job, _Receiving)]
    for index, job in enumerate(config.jobs):
        if not isinstance(job, _Sending):
            continue
        for receiver in receivers:
            root = receiver.root_fs
            below = FilesystemFilter.of({f"{root}<": True, root: False})
            if job.filesystems.shared_with(below) is None:
                continue
            what = f"lets in what job {receiver.name!r} receives below {root}"
            instead = f'leave it out by `"{root}<": false`'
            if not isinstance(job.snapshotting, ManualSnapshotting):
                harm = "snapshots taken there keep the replicas from being received any further"
            elif isinstance(job, PushJob | SourceJob) and _circles(job, receiver):
                harm = "replicas of replicas can go round in a circle"
                instead += f", or name {root} on purpose"
            else:
                continue
            yield ("jobs", index, "filesystems"), f"{what}: {harm}; {instead}"


def _destinations(config: Config) -> Iterator[tuple[Loc, str]]:
    """Push jobs that send the same filesystems to the same client's place at the same sink."""
    pushes = [(index, job) for index, job in enumerate(config.jobs) if isinstance(job, PushJob)]
    for at, (index, job) in enumerate(pushes):
        for _, other in pushes[:at]:
            if _place(job) != _place(other):
                continue
            shared = job.filesystems.shared_with(other.filesystems)
            if shared is not None:
                what = f"lets in {shared}, which job {other.name!r} sends to the same place"
                yield ("jobs", index, "filesystems"), f"{what}: {_SAME_REPLICA}"


def _place(job: PushJob) -> tuple[object, ...]:
    """Where it arrives, as whom; another key may well mean another client."""
    match job.connect:
        case LocalConnect(listener_name=name, client_identity=identity):
            return ("local", name, identity)
        case SshStdinserverConnect(host=host, user=user, port=port, identity_file=key):
            return ("ssh", host, user, port, key)
        case TlsConnect(address=address, cert=cert):
            return ("tls", str(address), cert)
        case TcpConnect(address=address):
            return ("tcp", str(address))
        case other:
            assert_never(other)


def _circles(sender: PushJob | SourceJob, receiver: _Receiving) -> bool:
    """Whether it comes back for sure, or is let in by a pattern that may not mean it."""
    if _joined(sender, receiver):
        return True
    on_purpose = (
        verdict and f"{pattern.removesuffix('<')}/".startswith(f"{receiver.root_fs}/")
        for pattern, verdict in sender.filesystems.entries
    )
    return not any(on_purpose)


def _joined(sender: PushJob | SourceJob, receiver: _Receiving) -> bool:
    ends = [getattr(job, end, None) for job in (sender, receiver) for end in ("connect", "serve")]
    connect = next((end for end in ends if isinstance(end, LocalConnect)), None)
    serve = next((end for end in ends if isinstance(end, LocalServe)), None)
    return (
        connect is not None and serve is not None and connect.listener_name == serve.listener_name
    )


def _snapshots(config: Config) -> Iterator[tuple[Loc, str]]:
    for taker_index, taker in enumerate(config.jobs):
        if not isinstance(taker, _Sending) or isinstance(taker.snapshotting, ManualSnapshotting):
            continue
        prefix = taker.snapshotting.prefix
        name = taker.snapshotting.naming.name(_SOME_DAY)
        for index, job in enumerate(config.jobs):
            if job is taker or not isinstance(job, _Sending):
                continue
            shared = job.filesystems.shared_with(taker.filesystems)
            if shared is None:
                continue
            loc: Loc = ("jobs", index)
            taken = f"{prefix!r}… that job {taker.name!r} takes of {shared}"
            if index > taker_index and _takes(job, prefix):
                text = f"the same as {taken}; let one of the two take them, or use another prefix"
                yield (*loc, "snapshotting", "prefix"), text
            for key, rules in _destroying(job):
                if not any(_keeps(rule, name) for rule in rules):
                    text = (
                        f"keeps none of the snapshots {taken}; add a rule whose regex is for them"
                    )
                    yield (*loc, "pruning", key), text


def _pruned_twice(config: Config) -> Iterator[tuple[Loc, str]]:
    """Jobs that thin out the same snapshots of the same filesystems."""
    names = {
        job.snapshotting.prefix: job.snapshotting.naming.name(_SOME_DAY)
        for job in config.jobs
        if isinstance(job, _Sending) and not isinstance(job.snapshotting, ManualSnapshotting)
    }
    pruning = [
        (index, job, key, rules)
        for index, job in enumerate(config.jobs)
        if isinstance(job, PushJob | SnapJob)
        for key, rules in _destroying(job)
    ]
    for at, (index, job, key, rules) in enumerate(pruning):
        for _, other, _, others in pruning[:at]:
            shared = job.filesystems.shared_with(other.filesystems)
            for prefix, name in names.items() if shared is not None else ():
                if _thins(rules, name) and _thins(others, name):
                    text = (
                        f"thins out {prefix!r}… of {shared}, as job {other.name!r} does: what one of "
                        "them keeps the other may destroy; let one keep them all, by a rule of type regex"
                    )
                    yield ("jobs", index, "pruning", key), text


def _thins(rules: tuple[KeepRule, ...], name: str) -> bool:
    """Whether some of the snapshots of that name stay by the rules, and some go."""
    keepers = [rule for rule in rules if _keeps(rule, name)]
    return bool(keepers) and not any(isinstance(rule, KeepRegex) for rule in keepers)


def _takes(job: _Sending, prefix: str) -> bool:
    snapshotting = job.snapshotting
    return not isinstance(snapshotting, ManualSnapshotting) and snapshotting.prefix == prefix


def _destroying(job: _Sending) -> Iterator[tuple[str, tuple[KeepRule, ...]]]:
    match job:
        case PushJob():
            yield "keep_sender", job.pruning.keep_sender
        case SnapJob():
            yield "keep", job.pruning.keep
        case SourceJob():
            pass


def _keeps(rule: KeepRule, name: str) -> bool:
    """Whether the rule is about snapshots of that name: it keeps all of them, or some."""
    match rule:
        case KeepGrid() | KeepLastN() | KeepCalendar():
            return rule.regex.search(name)
        case KeepRegex():
            return rule.regex.search(name) is not rule.negate
        case KeepNotReplicated():
            return False
