"""How fresh the copies are: the age of the newest snapshot on each side, for one dataset or all. Pure.

Creation times are the sender's: zfs gives a received snapshot the time of the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter

from zrepl_trio.endpoint.model import SnapshotTimes
from zrepl_trio.replication.report import AttemptState, Report
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

__all__ = ["DatasetFreshness", "after_report", "newest_of", "times_of"]

_BY_CREATETXG = attrgetter("createtxg")

_PLANNED = {AttemptState.FAN_OUT, AttemptState.FILESYSTEM_ERROR, AttemptState.DONE}


@valueclass(frozen=True, slots=True, kw_only=True)
class DatasetFreshness:
    """One dataset, by the sender's name; `peer` is the client it is for, empty in an active job."""

    dataset: str
    times: SnapshotTimes
    peer: str = ""


def times_of(
    sender: Iterable[FilesystemVersion], receiver: Iterable[FilesystemVersion]
) -> SnapshotTimes:
    """From the versions of one dataset on both sides; what the receiver has of its own counts not."""
    theirs, ours = list(sender), list(receiver)
    if ours:
        guids = {version.guid for version in theirs}
        ours = [version for version in ours if version.guid in guids]
    return SnapshotTimes(newest=newest_of(theirs), replicated=newest_of(ours))


def after_report(known: Mapping[str, SnapshotTimes], report: Report) -> Mapping[str, SnapshotTimes]:
    """What is known of each dataset after a run, or so far in it.

    An attempt that could be planned tells which datasets there are; of one that it could not list,
    and after an attempt that could not be planned, what was known before still holds.
    """
    for attempt in report.attempts:
        if attempt.state in _PLANNED:
            known = {
                filesystem.name: filesystem.times or known.get(filesystem.name, SnapshotTimes())
                for filesystem in attempt.filesystems
            }
    return known


def newest_of(versions: Iterable[FilesystemVersion]) -> int | None:
    """When the newest of the snapshots was taken."""
    snapshots = [version for version in versions if version.kind is VersionKind.SNAPSHOT]
    newest = max(snapshots, key=_BY_CREATETXG, default=None)
    return None if newest is None else newest.creation
