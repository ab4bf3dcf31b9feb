"""Names of zrepl's holds and bookmarks: made, parsed, and recognised as a job's own.

They live on disk for years and are shared with zrepl, so they match it byte for byte
(behaviour of zrepl 0.7; the tentative cursor really has two underscores before `G`).
A bookmark counts only if the guid in its name is its own: a renamed or re-made one is not ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from zrepl_trio.errors import Refused
from zrepl_trio.zfs.model import FilesystemVersion, Hold, VersionKind
from zrepl_trio.zfs.names import MAX_NAME_BYTES, DatasetPath, InvalidName, check_component

__all__ = [
    "LEGACY_CURSOR",
    "MAX_JOB_NAME",
    "Cursor",
    "CursorKind",
    "cursor_name",
    "cursors_of",
    "is_own_cursor",
    "is_own_tentative",
    "last_received_tag",
    "newest_cursor",
    "parse_cursor",
    "parse_last_received_tag",
    "parse_step_tag",
    "snapshots_held_by",
    "step_tag",
    "tentative_name",
]

LEGACY_CURSOR = "zrepl_replication_cursor"
"""zrepl's first cursor, without a job in its name: never used for replication, only migrated."""

MAX_JOB_NAME = 203
"""Longest job name zrepl's config accepts, so that the derived names fit on `pool/ds`."""


class CursorKind(Enum):
    """The two kinds of cursor bookmark; the value is what stands before `_G_`."""

    CURSOR = "zrepl_CURSOR"
    TENTATIVE = "zrepl_CURSORTENTATIVE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A cursor bookmark's name, taken apart."""

    kind: CursorKind
    guid: int
    job: str


# Greedy as zrepl's: of two `_G_…_J_` in one name the last one splits it.
_CURSOR = re.compile(r"(.+)_G_([0-9a-f]{16})_J_(.+)", re.ASCII)
_STEP = re.compile(r"zrepl_STEP_J_(.+)", re.ASCII)
_LAST_RECEIVED = re.compile(r"zrepl_last_received_J_(.+)", re.ASCII)


def cursor_name(dataset: DatasetPath, guid: int, job: str) -> str:
    """The replication cursor's bookmark name; Refused when `dataset#name` would be too long."""
    return _checked(dataset, _bookmark(CursorKind.CURSOR, guid, job), job)


def tentative_name(dataset: DatasetPath, guid: int, job: str) -> str:
    """The tentative cursor's bookmark name; Refused when `dataset#name` would be too long."""
    return _checked(dataset, _bookmark(CursorKind.TENTATIVE, guid, job), job)


def step_tag(job: str) -> str:
    """The tag of the hold that keeps a step's snapshots on the sender."""
    return f"zrepl_STEP_J_{job}"


def last_received_tag(job: str) -> str:
    """The tag of the hold that keeps the newest received snapshot on the receiver."""
    return f"zrepl_last_received_J_{job}"


def parse_cursor(name: str) -> Cursor | None:
    """The cursor named `name` (without dataset and `#`), None for any other bookmark."""
    match = _CURSOR.fullmatch(name)
    if match is None or not _is_job(match[3]):
        return None
    for kind in CursorKind:
        if match[1] == kind.value:
            return Cursor(kind=kind, guid=int(match[2], 16), job=match[3])
    return None


def parse_step_tag(tag: str) -> str | None:
    """The job of a step hold's tag, None for any other tag."""
    return _job_in(_STEP, tag)


def parse_last_received_tag(tag: str) -> str | None:
    """The job of a last-received hold's tag, None for any other tag."""
    return _job_in(_LAST_RECEIVED, tag)


def is_own_cursor(version: FilesystemVersion, job: str) -> bool:
    """Whether this is a replication cursor of exactly that job."""
    return _is_own(version, CursorKind.CURSOR, job)


def is_own_tentative(version: FilesystemVersion, job: str) -> bool:
    """Whether this is a tentative cursor of exactly that job."""
    return _is_own(version, CursorKind.TENTATIVE, job)


def cursors_of(
    versions: Iterable[FilesystemVersion], job: str, kinds: Iterable[CursorKind]
) -> list[FilesystemVersion]:
    """That job's cursor bookmarks of those kinds, in the order given."""
    # looked at first: mostly there are many snapshots and one or two bookmarks
    bookmarks = [v for v in versions if v.kind is VersionKind.BOOKMARK]
    if not bookmarks:
        return []
    wanted = tuple(kinds)
    return [v for v in bookmarks if v.name in [_bookmark(kind, v.guid, job) for kind in wanted]]


def newest_cursor(versions: Iterable[FilesystemVersion], job: str) -> FilesystemVersion | None:
    """The job's replication cursor with the highest createtxg, None when it has none."""
    return max(
        cursors_of(versions, job, [CursorKind.CURSOR]), key=lambda v: v.createtxg, default=None
    )


def snapshots_held_by(holds: Iterable[Hold], tag: str) -> tuple[str, ...]:
    """Names of the snapshots that carry exactly that tag, in the order given."""
    return tuple(hold.snapshot for hold in holds if hold.tag == tag)


def _bookmark(kind: CursorKind, guid: int, job: str) -> str:
    # not `value`, a property written in Python: a run asks for each bookmark several times
    return f"{kind._value_}_G_{guid:016x}_J_{job}"


def _is_own(version: FilesystemVersion, kind: CursorKind, job: str) -> bool:
    # Compared as a whole: a job whose own name holds `_G_…_J_` is told apart this way only.
    return version.kind is VersionKind.BOOKMARK and version.name == _bookmark(
        kind, version.guid, job
    )


def _checked(dataset: DatasetPath, name: str, job: str) -> str:
    length = len(dataset) + 1 + len(name)
    if length > MAX_NAME_BYTES:
        raise Refused(
            f"{dataset}: the cursor bookmark of job {job!r} would have a name of {length} bytes "
            f"({MAX_NAME_BYTES} are possible): shorten the job's or the dataset's name by "
            f"{length - MAX_NAME_BYTES}"
        )
    return name


def _is_job(text: str) -> bool:
    try:
        check_component(text, "job name")
    except InvalidName:
        return False
    return True


def _job_in(pattern: re.Pattern[str], tag: str) -> str | None:
    match = pattern.fullmatch(tag)
    return match[1] if match is not None and _is_job(match[1]) else None
