"""Jobs of one config that get in each other's way on the same datasets.

Two jobs may well mean the same filesystems: one takes snapshots, others send them. So only what
does harm is told: snapshots taken twice, those of one job destroyed by another's pruning, and
replicas that are snapshotted or sent round in a circle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
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
from zrepl_trio.config.timestamps import SnapshotNaming
from zrepl_trio.config.transport import (
    Connect,
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
_TWICE = (
    "what one of them keeps the other may destroy; let one keep them all, by a rule of type regex"
)
_SOME_DAY = datetime(2020, 6, 1, tzinfo=UTC)
_APART = timedelta(days=9, hours=7, minutes=13, seconds=11, milliseconds=123)
_BEGIN = re.compile(r"\^?(?P<text>(?:[A-Za-z0-9_:-](?![?*{]))*)")
"""How the names begin that a pattern means, as far as it says so in so many letters."""

_Names: TypeAlias = tuple[str, ...]
"""Examples of the names of some snapshots."""


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
            if _place(job.connect) != _place(other.connect):
                continue
            shared = job.filesystems.shared_with(other.filesystems)
            if shared is not None:
                what = f"lets in {shared}, which job {other.name!r} sends to the same place"
                yield ("jobs", index, "filesystems"), f"{what}: {_SAME_REPLICA}"


def _place(connect: Connect) -> tuple[object, ...]:
    """Whom it reaches, as whom; another key may well mean another client."""
    match connect:
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
        names = _names(taker.snapshotting.naming)
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
                if not any(_keeps(rule, names) for rule in rules):
                    text = (
                        f"keeps none of the snapshots {taken}; add a rule whose regex is for them"
                    )
                    yield (*loc, "pruning", key), text


@dataclass(frozen=True, slots=True)
class _Thinner:
    """Rules of a job that takes snapshots with `prefix`, or none, and where they apply: to filesystems of
    this host, or at the `place` that it pulls from."""

    job: PushJob | PullJob | SnapJob
    loc: Loc
    rules: tuple[KeepRule, ...]
    here: FilesystemFilter | None = None
    place: tuple[object, ...] | None = None
    prefix: str | None = None

    def shared_with(self, other: _Thinner) -> str | None:
        """What both are about, for a person; None where that is nothing."""
        if self.job is other.job:
            return None
        if self.here is not None and other.here is not None:
            return self.here.shared_with(other.here)
        same = self.place is not None and self.place == other.place
        return "what the source has" if same else None

    def thins(self, names: _Names) -> bool:
        """Whether some of the snapshots of such names stay by the rules, and some go."""
        every = all(
            any(isinstance(rule, KeepRegex) and _keeps(rule, (name,)) for rule in self.rules)
            for name in names
        )
        return not every and any(_keeps(rule, names) for rule in self.rules)

    def means(self, names: _Names) -> bool:
        """Whether they may go, were they taken by somebody that no job of the config is."""
        if self.prefix is None or self.job.pruning.foreign == "destroy":
            return True
        return any(_keeps(rule, names) and not _is_for_all(rule) for rule in self.rules)


def _pruned_twice(config: Config) -> Iterator[tuple[Loc, str]]:
    """Jobs that thin out the same snapshots of the same filesystems."""
    takers = [
        (job.filesystems, job.snapshotting)
        for job in config.jobs
        if isinstance(job, _Sending) and not isinstance(job.snapshotting, ManualSnapshotting)
    ]
    thinners = list(_thinners(config))
    for at, one in enumerate(thinners):
        for other in thinners[:at]:
            shared = one.shared_with(other)
            if shared is None:
                continue
            taken = {
                f"{snapshotting.prefix!r}… of {shared}": _names(snapshotting.naming)
                for filesystems, snapshotting in takers
                if one.here is not None and filesystems.shared_with(one.here) is not None
            }
            pair = (one, other)
            twice = [
                what for what, names in taken.items() if all(each.thins(names) for each in pair)
            ]
            if not twice and any(
                all(each.thins(names) and each.means(names) for each in pair)
                for names in _made_up(*pair)
            ):
                twice = [f"snapshots of {shared}"]
            for what in twice:
                yield one.loc, f"thins out {what}, as job {other.job.name!r} does: {_TWICE}"


def _thinners(config: Config) -> Iterator[_Thinner]:
    sources = {
        job.serve.listener_name: job.filesystems
        for job in config.jobs
        if isinstance(job, SourceJob) and isinstance(job.serve, LocalServe)
    }
    for index, job in enumerate(config.jobs):
        loc: Loc = ("jobs", index, "pruning")
        match job:
            case PushJob() | SnapJob():
                taken = job.snapshotting
                prefix = None if isinstance(taken, ManualSnapshotting) else taken.prefix
                for key, rules in _destroying(job):
                    yield _Thinner(job, (*loc, key), rules, here=job.filesystems, prefix=prefix)
            case PullJob():
                connect, rules = job.connect, job.pruning.keep_sender
                name = connect.listener_name if isinstance(connect, LocalConnect) else None
                here = sources.get(name) if name is not None else None
                place = _place(connect) if here is None else None
                yield _Thinner(job, (*loc, "keep_sender"), rules, here=here, place=place)
                replicas = FilesystemFilter.of({f"{job.root_fs}<": True, job.root_fs: False})
                rules = job.pruning.keep_receiver
                yield _Thinner(job, (*loc, "keep_receiver"), rules, here=replicas)
            case SinkJob() | SourceJob():
                pass


@lru_cache(maxsize=64)  # asked for with each pair of jobs
def _names(naming: SnapshotNaming) -> _Names:
    """A year's worth of examples, at any time of the day."""
    return tuple(naming.name(_SOME_DAY + number * _APART) for number in range(40))


def _made_up(*thinners: _Thinner) -> Iterator[_Names]:
    """Names of snapshots that somebody else might take: of any kind, and such as the rules name."""
    patterns = (
        rule.regex.pattern
        for thinner in thinners
        for rule in thinner.rules
        if not isinstance(rule, KeepNotReplicated)
    )
    begins = [found["text"] for found in map(_BEGIN.match, patterns) if found is not None]
    for begin in dict.fromkeys(("", *begins)):
        yield _names(SnapshotNaming(begin, "dense", "UTC"))


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


def _keeps(rule: KeepRule, names: _Names) -> bool:
    """Whether the rule is about some snapshots of these names: it keeps all of them, or some."""
    match rule:
        case KeepGrid() | KeepLastN() | KeepCalendar():
            return any(rule.regex.search_all(names))
        case KeepRegex():
            return any(found is not rule.negate for found in rule.regex.search_all(names))
        case KeepNotReplicated():
            return False


def _is_for_all(rule: KeepRule) -> bool:
    """Whether it is about no names in particular: then it means those that its job takes."""
    return not isinstance(rule, KeepNotReplicated) and rule.regex.means_none
