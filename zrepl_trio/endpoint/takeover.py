"""What a job finds on a host that another daemon, zrepl or an older one of ours, replicated before.

Pure, from what listings show of one side: so "continues" means as far as this side can know. The
rules are those of planning (`replication.plan`) and of the guarantees, seen from one end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from zrepl_trio.endpoint.abstractions import LEGACY_CURSOR
from zrepl_trio.endpoint.aside import copy_around
from zrepl_trio.endpoint.inventory import Abstraction, AbstractionType, stale
from zrepl_trio.endpoint.migrations import wants_placeholder_rewrite
from zrepl_trio.zfs.model import Dataset, FilesystemVersion, ResumeToken
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "MIGRATE_CURSORS",
    "MIGRATE_PLACEHOLDERS",
    "Finding",
    "Outlook",
    "judge_replica",
    "judge_source",
    "of_other_jobs",
]

MIGRATE_CURSORS = "zrepl-trio migrate replication-cursor:v1-v2"
MIGRATE_PLACEHOLDERS = "zrepl-trio migrate 0.0.X:0.1:placeholder"


class Outlook(Enum):
    """What the job's next run does with one filesystem; the value is the word for it."""

    CONTINUES = "continues incrementally"
    RESUMES = "will be resumed"
    FIRST = "first replication"
    NOTHING = "nothing to do"
    CANNOT = "cannot continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One filesystem: `why` follows the outlook in a sentence, `found` are the things that lie
    there, `next` what a person is to do, empty when that is nothing."""

    dataset: DatasetPath
    outlook: Outlook
    why: str = ""
    found: tuple[str, ...] = ()
    next: str = ""


def of_other_jobs(abstractions: Iterable[Abstraction], job: str) -> Counter[str]:
    """How many holds and bookmarks each other job has among them; nobody but that job touches
    them."""
    return Counter(a.job for a in abstractions if a.job is not None and a.job != job)


def judge_source(
    job: str,
    dataset: Dataset,
    versions: Sequence[FilesystemVersion],
    abstractions: Sequence[Abstraction],
) -> Finding:
    """A filesystem that a source or push job sends."""
    path = dataset.path
    if dataset.is_placeholder:
        return Finding(
            dataset=path, outlook=Outlook.NOTHING, why="a placeholder is never sent itself"
        )
    found, cursor = _source_items(job, versions, abstractions)
    snapshots = [v for v in versions if v.is_snapshot]
    migrate = ""
    old = next((v for v in versions if not v.is_snapshot and v.name == LEGACY_CURSOR), None)
    if old is not None:
        migrate = f"once it has replicated, drop the v1 cursor: `{MIGRATE_CURSORS}`"
    base = cursor.version if cursor is not None else old
    if base is not None:
        later = sum(v.createtxg > base.createtxg for v in snapshots)
        return Finding(
            dataset=path,
            outlook=Outlook.CONTINUES,
            why=f"from {_named(base.guid, versions)}; snapshots since: {later}",
            found=found,
            next=migrate,
        )
    if not snapshots:
        return Finding(
            dataset=path,
            outlook=Outlook.CANNOT,
            why="it has bookmarks only" if versions else "it has neither snapshot nor bookmark",
            found=found,
            next=f"take a snapshot of {path}, or leave it out of `filesystems`",
        )
    return Finding(
        dataset=path,
        outlook=Outlook.FIRST,
        why="unless the receiver's newest snapshot is one of its versions: then it goes on from there",
        found=found,
        next=_renamed(job, abstractions),
    )


def _source_items(
    job: str, versions: Sequence[FilesystemVersion], abstractions: Sequence[Abstraction]
) -> tuple[tuple[str, ...], Abstraction | None]:
    """In words, and the job's newest cursor."""
    of_job = [a for a in abstractions if a.job in {None, job}]
    outdated = [a for a in stale(of_job) if a.type is not AbstractionType.LAST_RECEIVED]
    cursor: Abstraction | None = None
    found: list[str] = []
    for each in of_job:
        if each in outdated:
            continue
        at = _named(each.version.guid, versions)
        match each.type:
            case AbstractionType.CURSOR:
                cursor = each
                found.append(f"cursor at {at}")
            case AbstractionType.TENTATIVE:
                found.append(f"tentative cursor at {at}, of an unfinished step")
            case AbstractionType.STEP:
                found.append(f"step hold on {at}, of an unfinished step")
            case AbstractionType.CURSOR_V1:
                found.append(f"v1 cursor at {at}, of an old zrepl")
            case AbstractionType.LAST_RECEIVED:
                pass  # the same job name on a receiver: not this side's
    if outdated:
        found.append(f"stale, dropped by the next step: {len(outdated)}")
    return tuple(found), cursor


def _renamed(job: str, abstractions: Iterable[Abstraction]) -> str:
    cursors = sorted(
        a.job for a in abstractions if a.job is not None and a.type is AbstractionType.CURSOR
    )
    if not cursors:
        return ""
    return (
        f"there is no cursor of {job!r}, but of {', '.join(map(repr, cursors))}: if the job was "
        "renamed, give it its old name back"
    )


def judge_replica(
    job: str,
    dataset: Dataset,
    sent_as: DatasetPath,
    versions: Sequence[FilesystemVersion],
    abstractions: Sequence[Abstraction],
    token: ResumeToken | str | None = None,
) -> Finding:
    """A filesystem below the root of a pull or sink job, which the sender calls `sent_as`.

    `token` is the decoded resume token, or why it cannot be read; None when it has none.
    """
    path = dataset.path
    if (copy := copy_around(path)) is not None:
        return _set_aside(path, copy, job, abstractions)
    found = list(_replica_items(job, abstractions))
    migrate = ""
    if wants_placeholder_rewrite(dataset):
        found.append("placeholder with the mark of zrepl 0.0.x")
        migrate = f"give it today's mark: `{MIGRATE_PLACEHOLDERS}`"
    elif dataset.is_placeholder:
        found.append("placeholder")
    elif dataset.placeholder_value not in {"", "off"}:
        found.append(
            f"zrepl:placeholder={dataset.placeholder_value} is not its own, so it is real data"
        )
    newest = next((v for v in reversed(versions) if v.is_snapshot), None)
    spoilt = ""
    if token is not None:
        why, spoilt = _resuming(token, sent_as, newest)
        if why:
            return Finding(
                dataset=path,
                outlook=Outlook.RESUMES,
                why=why,
                found=tuple(found),
                next=migrate,
            )
        found.append(f"partly received state, to be dropped: {spoilt}")
    if dataset.is_placeholder:
        return Finding(
            dataset=path,
            outlook=Outlook.NOTHING,
            why="it is replaced when its data comes",
            found=tuple(found),
            next=migrate,
        )
    if newest is not None:
        return _from_newest(path, newest, versions, job, abstractions, tuple(found))
    if spoilt:
        return Finding(
            dataset=path,
            outlook=Outlook.FIRST,
            why="nothing of it was received whole",
            found=tuple(found),
        )
    return Finding(
        dataset=path,
        outlook=Outlook.CANNOT,
        why="it has no snapshot and is no placeholder, so nothing is received over it",
        found=tuple(found),
        next=f"if the sender offers it and nothing in it is wanted: `zfs set zrepl:placeholder=on {path}`",
    )


def _set_aside(
    path: DatasetPath, copy: DatasetPath, job: str, abstractions: Sequence[Abstraction]
) -> Finding:
    held = [a for a in abstractions if a.job == job and a.type is AbstractionType.LAST_RECEIVED]
    release = f"zrepl-trio zfs-abstraction release-stale --fs {path}"
    return Finding(
        dataset=path,
        outlook=Outlook.NOTHING,
        why="a copy that was set aside, unless the sender has a filesystem of this name"
        if copy == path
        else f"in {copy}, a copy that was set aside; if it is a replica of its own, the next run brings it back",
        found=tuple(
            f"last-received hold on @{each.version.name}: before you destroy the copy, `{release}`"
            for each in held
        ),
    )


def _from_newest(
    path: DatasetPath,
    newest: FilesystemVersion,
    versions: Sequence[FilesystemVersion],
    job: str,
    abstractions: Sequence[Abstraction],
    found: tuple[str, ...],
) -> Finding:
    held = [
        a.version for a in abstractions if a.job == job and a.type is AbstractionType.LAST_RECEIVED
    ]
    base = max(held, key=lambda v: v.createtxg, default=None)
    later = [
        v for v in versions if v.is_snapshot and base is not None and v.createtxg > base.createtxg
    ]
    advice = ""
    if base is not None and later:
        advice = (
            f"{len(later)} snapshot(s) came after the last received @{base.name}: if they were taken "
            f"here, `zfs rollback -r {path}@{base.name}` (destroys them)"
        )
    return Finding(
        dataset=path,
        outlook=Outlook.CONTINUES,
        why=f"from @{newest.name} (guid {newest.guid:#x}), if the sender has that",
        found=found,
        next=advice,
    )


def _replica_items(job: str, abstractions: Sequence[Abstraction]) -> Iterable[str]:
    held = [a for a in abstractions if a.job == job and a.type is AbstractionType.LAST_RECEIVED]
    outdated = stale(held)
    for each in held:
        if each not in outdated:
            yield f"last-received hold on @{each.version.name}"
    if outdated:
        yield f"stale, released by the next receive: {len(outdated)}"


def _resuming(
    token: ResumeToken | str, sent_as: DatasetPath, newest: FilesystemVersion | None
) -> tuple[str, str]:
    """What would be resumed, or why that cannot be: one of the two is empty."""
    if isinstance(token, str):
        return "", f"its resume token cannot be read ({token})"
    named, _, snapshot = token.to_name.partition("@")
    if named != sent_as:
        return "", f"it came from {named!r}"
    if (newest.guid if newest is not None else None) != token.from_guid:
        return "", "the snapshots here changed since it was begun"
    base = f"from @{newest.name}" if newest is not None else "in full"
    size = f", {token.bytes_received} bytes are here" if token.bytes_received is not None else ""
    return f"@{snapshot} {base}{size}", ""


def _named(guid: int, versions: Iterable[FilesystemVersion]) -> str:
    """The snapshot with that guid, or that there is none."""
    for version in versions:
        if version.is_snapshot and version.guid == guid:
            return f"@{version.name} (guid {guid:#x})"
    return f"guid {guid:#x} (its snapshot is gone; the bookmark serves)"
