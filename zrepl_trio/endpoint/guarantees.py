"""Which holds and bookmarks a step makes and drops, for each kind of protection.

The plans only name things; the endpoints carry them out in the order of the fields: what
protects is made first, what is no longer needed goes last, so that a kill between any two
commands leaves at least one base for the next increment. Only items of exactly one job are
ever dropped, and never one that a running send uses. What is there already is not made again:
each command costs a process and often a pool sync.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zrepl_trio.endpoint.abstractions import (
    CursorKind,
    cursor_name,
    cursors_of,
    last_received_tag,
    snapshots_held_by,
    step_tag,
    tentative_name,
)
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, Hold, VersionKind, in_order
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "Bookmark",
    "Changes",
    "after_changes",
    "after_confirmation",
    "after_receive",
    "before_send",
    "kind_for",
    "snapshots_to_query",
]


@valueclass(frozen=True, slots=True)
class Bookmark:
    """A bookmark to make of that snapshot."""

    snapshot: FilesystemVersion
    name: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to do to one filesystem, in this order: hold, bookmark, release, destroy.

    `tag` is the hold's; `hold` and `release` name snapshots, `destroy` bookmarks.
    """

    tag: str
    hold: tuple[str, ...] = ()
    bookmark: tuple[Bookmark, ...] = ()
    release: tuple[str, ...] = ()
    destroy: tuple[str, ...] = ()


def kind_for(protection: Protection, *, initial: bool) -> GuaranteeKind:
    """The kind that applies: a full step's or an incremental one's."""
    return protection.initial if initial else protection.incremental


def snapshots_to_query(versions: Sequence[FilesystemVersion]) -> list[str]:
    """The snapshots that may carry holds (those with userrefs, or unknown ones)."""
    held = [v for v in versions if v.userrefs != 0]
    return [v.name for v in held if v.is_snapshot]


def before_send(
    *,
    dataset: DatasetPath,
    job: str,
    kind: GuaranteeKind,
    from_: FilesystemVersion | None,
    to: FilesystemVersion,
    versions: Sequence[FilesystemVersion],
    holds: Sequence[Hold],
    between: Sequence[FilesystemVersion] = (),
    in_use: Collection[FilesystemVersion] = (),
) -> Changes:
    """What must be there before `zfs send` starts, and what earlier steps left behind.

    The receiver of a range may end up with any snapshot of it: those `between` are held, too,
    unless nothing is promised. Bookmarks of them would cost a command each.
    `in_use` are the versions of the job's other running sends of this dataset: theirs stay. So does what protects
    later snapshots, which another client of the job may have by now, while its cursor is still to come.
    """
    step = [v for v in (from_, to) if v is not None]
    inner = [v.name for v in between]
    hold: list[str] = []
    bookmark: list[Bookmark] = []
    match kind:
        case GuaranteeKind.RESUMABILITY:
            # a bookmark can't be held, and needs not be: nothing but us destroys it
            hold = [*(v.name for v in step if v.is_snapshot), *inner]
        case GuaranteeKind.INCREMENTAL:
            hold = inner
            # a `from` that is a bookmark can't be bookmarked by every zfs; it serves as it is
            # and one that has a cursor is protected by that
            cursors = {v.guid for v in cursors_of(versions, job, [CursorKind.CURSOR])}
            bookmark = [
                Bookmark(v, tentative_name(dataset, v.guid, job))
                for v in step
                if v.is_snapshot and (v is not from_ or v.guid not in cursors)
            ]
        case GuaranteeKind.NOTHING:
            pass
    tag = step_tag(job)
    held = snapshots_held_by(holds, tag)
    used = [*step, *in_use]
    kept = list(in_use)
    if from_ is not None and not from_.is_snapshot:
        ours = cursors_of(versions, job, [CursorKind.CURSOR, CursorKind.TENTATIVE])
        if all(v.name != from_.name for v in ours):
            kept.append(from_)  # another job's bookmark, which that may move at any time
    if kind is not GuaranteeKind.NOTHING:
        kept += [v for v in versions if v.createtxg > to.createtxg and v.is_snapshot]
    keep_held = {*hold, *(v.name for v in kept if v.is_snapshot)}
    keep_bookmarks = {
        *(b.name for b in bookmark),
        *(v.name for v in used if not v.is_snapshot),
        *(tentative_name(dataset, v.guid, job) for v in kept),
    }
    return Changes(
        tag=tag,
        hold=tuple(name for name in hold if name not in held),
        bookmark=_missing(bookmark, versions),
        release=tuple(name for name in held if name not in keep_held),
        destroy=tuple(
            v.name
            for v in cursors_of(versions, job, [CursorKind.TENTATIVE])
            if v.name not in keep_bookmarks
        ),
    )


def after_confirmation(
    *,
    dataset: DatasetPath,
    job: str,
    kind: GuaranteeKind,
    to: FilesystemVersion,
    versions: Sequence[FilesystemVersion],
    holds: Sequence[Hold],
    in_use: Collection[FilesystemVersion] = (),
) -> Changes:
    """What the sender does once the receiver has `to`: the cursor moves, the rest goes.

    Holds and tentative bookmarks of later snapshots stay: of a range that ended at `to` they are what
    a resume starts from, and its next step drops them. With NOTHING no cursor is made and existing ones are dropped too,
    as zrepl does.
    """
    bookmark: tuple[Bookmark, ...] = ()
    if kind is not GuaranteeKind.NOTHING:
        bookmark = (Bookmark(to, cursor_name(dataset, to.guid, job)),)
    later = [v for v in versions if v.createtxg > to.createtxg and v.is_snapshot]
    keep_held = {v.name for v in (*in_use, *later) if v.is_snapshot}
    keep_bookmarks = {
        *(b.name for b in bookmark),
        *(v.name for v in in_use if not v.is_snapshot),
        *(tentative_name(dataset, v.guid, job) for v in (*in_use, *later)),
        # a running send's `from_` may have this and no tentative one
        *(cursor_name(dataset, v.guid, job) for v in in_use),
    }
    if kind is not GuaranteeKind.NOTHING:
        # of what another client of the job has: a cursor never moves back
        keep_bookmarks |= {
            v.name
            for v in cursors_of(versions, job, [CursorKind.CURSOR])
            if v.createtxg > to.createtxg
        }
    tag = step_tag(job)
    return Changes(
        tag=tag,
        bookmark=_missing(bookmark, versions),
        release=tuple(s for s in snapshots_held_by(holds, tag) if s not in keep_held),
        destroy=tuple(
            v.name
            for v in cursors_of(versions, job, [CursorKind.CURSOR, CursorKind.TENTATIVE])
            if v.name not in keep_bookmarks
        ),
    )


def after_receive(
    *, job: str, kind: GuaranteeKind, received: FilesystemVersion, holds: Sequence[Hold]
) -> Changes:
    """What the receiver does once it has `received`: the hold moves there.

    With NOTHING none is made and existing ones of the job are released, as zrepl does.
    """
    tag = last_received_tag(job)
    held = snapshots_held_by(holds, tag)
    hold = () if kind is GuaranteeKind.NOTHING else (received.name,)
    return Changes(
        tag=tag,
        hold=tuple(name for name in hold if name not in held),
        release=tuple(name for name in held if name not in hold),
    )


def after_changes(
    dataset: DatasetPath,
    changes: Changes,
    versions: Sequence[FilesystemVersion],
    holds: Sequence[Hold],
) -> tuple[list[FilesystemVersion], list[Hold]]:
    """What versions and holds are once all of the changes are made."""
    kept = list(versions)
    if changes.destroy:
        gone = set(changes.destroy)
        kept = [v for v in kept if v.kind is VersionKind.SNAPSHOT or v.name not in gone]
    if changes.hold or changes.release:
        more = dict.fromkeys(changes.hold, 1) | dict.fromkeys(changes.release, -1)
        changed = [i for i, v in enumerate(kept) if v.name in more and v.is_snapshot]
        for index in changed:
            v = kept[index]
            kept[index] = _counted(v, (v.userrefs or 0) + more[v.name])
    if changes.bookmark:
        made = [_bookmarked(b.snapshot, b.name) for b in changes.bookmark]
        kept = in_order([*made, *kept])
    still = list(holds)
    if changes.release:
        still = [h for h in still if h.tag != changes.tag or h.snapshot not in changes.release]
    return kept, still + [Hold(dataset, name, changes.tag) for name in changes.hold]


def _counted(version: FilesystemVersion, userrefs: int) -> FilesystemVersion:
    return FilesystemVersion(
        kind=version.kind,
        name=version.name,
        guid=version.guid,
        createtxg=version.createtxg,
        creation=version.creation,
        userrefs=userrefs,
    )


def _bookmarked(version: FilesystemVersion, name: str) -> FilesystemVersion:
    return FilesystemVersion(
        kind=VersionKind.BOOKMARK,
        name=name,
        guid=version.guid,
        createtxg=version.createtxg,
        creation=version.creation,
    )


def _missing(
    wanted: Sequence[Bookmark], versions: Sequence[FilesystemVersion]
) -> tuple[Bookmark, ...]:
    if not wanted:
        return ()
    there = {(v.name, v.guid) for v in versions if v.kind is VersionKind.BOOKMARK}
    return tuple(b for b in wanted if (b.name, b.snapshot.guid) not in there)
