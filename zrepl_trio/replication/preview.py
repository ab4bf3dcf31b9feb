"""A plan for a person, or a program, to read before it acts. Pure.

Holds and cursors are told by what they protect: their names hold the name of the side's own
job, which the other side does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

from zrepl_trio.endpoint.model import GuaranteeKind, Marks, Protection
from zrepl_trio.replication.conflicts import ConflictKind
from zrepl_trio.replication.diff import Conflict, Diverged, Modified, NoCommonAncestor, Occupied
from zrepl_trio.replication.dropped import (
    NOTHING_KNOWN,
    Dropped,
    receiver_drops,
    sender_drops,
    senders_marks,
)
from zrepl_trio.replication.plan import FilesystemPlan, Plan, Refusal, RunPlan, Step
from zrepl_trio.replication.ranges import streams
from zrepl_trio.replication.report import JsonValue
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "FilesystemPreview",
    "Resolution",
    "StepPreview",
    "preview",
    "resolutions_of",
    "total",
]

_NO_MARKS: Mapping[DatasetPath, Marks] = MappingProxyType({})

SizeOf: TypeAlias = Callable[[DatasetPath, int], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPreview:
    """One snapshot to send and what protects it; versions as `@snapshot` or `#bookmark`.

    `size` in bytes, None where zfs can't say before it sends. `stream` counts the streams of the
    filesystem from 0: steps of a range have the same. `hold` and `tentative` are what the sender
    holds and bookmarks before the stream starts, `cursor` where its cursor is once it has ended,
    `received_hold` the snapshot that the receiver then holds; both None inside of a range.
    """

    from_: str | None
    to: str
    size: int | None
    resumes: bool
    stream: int = 0
    hold: tuple[str, ...] = ()
    tentative: tuple[str, ...] = ()
    cursor: str | None = None
    received_hold: str | None = None

    def to_json(self) -> JsonValue:
        return {
            "from": self.from_,
            "to": self.to,
            "bytes": self.size,
            "resumes": self.resumes,
            "stream": self.stream,
            "sender_holds": list(self.hold),
            "sender_tentative_cursors": list(self.tentative),
            "sender_cursor": self.cursor,
            "receiver_hold": self.received_hold,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A way out of a conflict, on the receiver: what it does, which snapshots it destroys, and, where
    that is all, how many bytes written since the newest one."""

    name: str
    does: str
    destroys: tuple[FilesystemVersion, ...] = ()
    written: int | None = None

    def to_json(self) -> JsonValue:
        return {
            "name": self.name,
            "does": self.does,
            "destroys": [_version(version) for version in self.destroys],
            "destroys_bytes": self.written,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemPreview:
    """What a run would do for one filesystem; neither steps nor a problem: it is up to date.

    `placeholders` are the parents, under the sender's names, that are made for it. `resolution` is what
    the receiver does first, by the job's policy; `resolutions` are what could be done. `place` is
    its path on the receiver, None where that, a zrepl, does not tell it. `renames` is the name, on the
    sender until now, under which the replica is before the run gives it the new one. `offered` as
    a Refusal's. `sender` and `receiver`: what is there now and goes on each side, not known of all.
    """

    path: DatasetPath
    place: DatasetPath | None = None
    steps: tuple[StepPreview, ...] = ()
    placeholders: tuple[DatasetPath, ...] = ()
    note: str = ""
    problem: str = ""
    conflict: Conflict | None = None
    kind: str = ""
    renames: DatasetPath | None = None
    resolution: Resolution | None = None
    resolutions: tuple[Resolution, ...] = ()
    offered: bool = True
    sender: Dropped = NOTHING_KNOWN
    receiver: Dropped = NOTHING_KNOWN

    @property
    def size(self) -> int | None:
        """Bytes of all its steps, None when one is unknown."""
        sizes = [step.size for step in self.steps]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def to_json(self) -> JsonValue:
        conflict = self.conflict
        return {
            "filesystem": str(self.path),
            "place": str(self.place) if self.place is not None else None,
            "steps": [step.to_json() for step in self.steps],
            "sender_releases": _listed(self.sender.releases),
            "sender_destroys": _listed(self.sender.destroys),
            "receiver_releases": _listed(self.receiver.releases),
            "placeholders": [str(path) for path in self.placeholders],
            "note": self.note,
            "renames": str(self.renames) if self.renames is not None else None,
            "problem": self.problem,
            "conflict": None
            if conflict is None
            else {
                "kind": self.kind,
                "sender": [_version(version) for version in conflict.sender],
                "receiver": [_version(version) for version in conflict.receiver],
                "common": _version(conflict.ancestor)
                if isinstance(conflict, Diverged | Modified)
                else None,
            },
            "resolution": self.resolution.to_json() if self.resolution is not None else None,
            "resolutions": [resolution.to_json() for resolution in self.resolutions],
        }


def preview(
    plan: RunPlan,
    size_of: SizeOf,
    protection: Protection,
    *,
    ranges: bool = False,
    sender: Mapping[DatasetPath, Marks] = _NO_MARKS,
    receiver: Mapping[DatasetPath, Marks] = _NO_MARKS,
) -> list[FilesystemPreview]:
    """Each filesystem of the plan, parents first; `size_of` tells of the step with that index.
    `ranges`: both sides move several snapshots in one stream. `sender` and `receiver` are the marks
    that either has told of, by the sender's names."""
    there = set(plan.received)
    found = []
    for each in plan.plans:
        shown = _filesystem(each, there, size_of, protection, ranges=ranges)
        if isinstance(each, FilesystemPlan) and (each.steps or each.confirm or each.resolve):
            path, together = each.filesystem.path, _streams(shown.steps)
            ours = senders_marks(each, sender.get(path))
            theirs = receiver.get(path)
            shown = replace(
                shown,
                sender=sender_drops(each, together, ours, protection),
                receiver=receiver_drops(each, together, theirs, protection),
            )
        found.append(shown)
        if isinstance(each, FilesystemPlan) and (each.steps or each.rename):
            there |= {each.filesystem.path, *found[-1].placeholders}
    return found


def _streams(steps: Sequence[StepPreview]) -> list[range]:
    """The indices of the steps of each stream."""
    ends = [n for n, (one, after) in enumerate(pairwise(steps), 1) if one.stream != after.stream]
    bounds = [0, *ends, len(steps)] if steps else []
    return [range(start, stop) for start, stop in pairwise(bounds)]


def resolutions_of(conflict: Conflict) -> tuple[Resolution, ...]:
    """The ways out that there are, the one that loses nothing first."""
    keep = Resolution(
        name="keep_copy",
        does="renames the replica on the receiver, with a timestamp, and sends the filesystem anew",
    )
    match conflict:
        case Diverged():
            back = Resolution(
                name="rollback",
                does=f"rolls the replica back to {conflict.ancestor.relative}, which both sides have",
                destroys=conflict.receiver_only,
            )
            return keep, back
        case Modified():
            back = Resolution(
                name="rollback",
                does=f"rolls the replica back to {conflict.ancestor.relative}",
                written=conflict.written or 0,
            )
            return keep, back
        case NoCommonAncestor() if conflict.receiver:
            return (keep,)
        case Occupied():
            does = (
                "renames what is there on the receiver, with a timestamp, and sends the filesystem"
            )
            return (replace(keep, does=does),)
        case _:
            return ()


_UNTOLD = "the sender is told that {} has arrived, as its cursor is not there"


def _filesystem(
    plan: Plan,
    there: set[DatasetPath],
    size_of: SizeOf,
    protection: Protection,
    *,
    ranges: bool,
) -> FilesystemPreview:
    path = plan.filesystem.path
    if isinstance(plan, Refusal):
        return FilesystemPreview(
            path=path,
            place=plan.place.path if plan.place is not None else None,
            problem=plan.text,
            conflict=plan.conflict,
            kind=plan.kind.value if plan.kind is not None else "",
            resolutions=resolutions_of(plan.conflict) if plan.conflict is not None else (),
            offered=plan.offered,
        )
    sizes = [size_of(path, index) for index in range(len(plan.steps))]
    together = (
        streams(plan.steps, sizes) if ranges else [range(n, n + 1) for n in range(len(sizes))]
    )
    steps = tuple(
        _step(
            plan.steps[index],
            sizes[index],
            protection,
            stream=number,
            first=index == of[0],
            last=index == of[-1],
        )
        for number, of in enumerate(together)
        for index in of
    )
    missing = tuple(parent for parent in plan.parents if parent not in there)
    resolution = None
    if plan.resolve is not None and plan.conflict is not None:
        way = plan.resolve.way.value
        resolution = next(r for r in resolutions_of(plan.conflict) if r.name == way)
    return FilesystemPreview(
        path=path,
        place=plan.place.path if plan.place is not None else None,
        steps=steps,
        placeholders=missing if steps else (),
        note=plan.note or (_UNTOLD.format(plan.confirm.to.relative) if plan.confirm else ""),
        conflict=plan.conflict,
        kind=ConflictKind.MODIFIED.value if isinstance(plan.conflict, Modified) else "",
        resolutions=resolutions_of(plan.conflict) if isinstance(plan.conflict, Modified) else (),
        renames=plan.rename.old[-1] if plan.rename is not None else None,
        resolution=resolution,
    )


def _step(
    step: Step, size: int | None, protection: Protection, *, stream: int, first: bool, last: bool
) -> StepPreview:
    """As `endpoint.guarantees` has it; `first` and `last` of its stream."""
    kind = protection.initial if step.from_ is None else protection.incremental
    hold: tuple[str, ...] = ()
    tentative: tuple[str, ...] = ()
    match kind:
        case GuaranteeKind.RESUMABILITY:
            hold = _snapshots(step.from_, step.to)
        case GuaranteeKind.INCREMENTAL:
            tentative = _snapshots(step.from_ if first else None, step.to if last else None)
            hold = () if last else (step.to.relative,)
        case GuaranteeKind.NOTHING:
            pass
    there = step.to.relative if last and kind is not GuaranteeKind.NOTHING else None
    return StepPreview(
        from_=step.from_.relative if step.from_ is not None else None,
        to=step.to.relative,
        size=size,
        resumes=step.resume_token is not None,
        stream=stream,
        hold=hold,
        tentative=tentative,
        cursor=there,
        received_hold=there,
    )


def _snapshots(*versions: FilesystemVersion | None) -> tuple[str, ...]:
    return tuple(v.relative for v in versions if v is not None and v.is_snapshot)


def _listed(names: Sequence[str] | None) -> JsonValue:
    return None if names is None else list(names)


def _version(version: FilesystemVersion) -> JsonValue:
    return {
        "name": version.relative,
        "guid": str(version.guid),
        "createtxg": version.createtxg,
        "creation": version.creation,
    }


def total(previews: Sequence[FilesystemPreview]) -> tuple[int, int, bool]:
    """Steps, bytes, and whether all sizes are known."""
    sizes = [step.size for each in previews for step in each.steps]
    return len(sizes), sum(size or 0 for size in sizes), None not in sizes
