"""Which holds and bookmarks that are there now a plan's steps let go of, by the endpoints' own rules. Pure.

What the steps make and drop themselves is not among them: the preview tells of that otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zrepl_trio.endpoint.abstractions import (
    CursorKind,
    last_received_tag,
    parse_cursor,
    snapshots_held_by,
)
from zrepl_trio.endpoint.guarantees import (
    Changes,
    after_changes,
    after_confirmation,
    after_receive,
    before_send,
    kind_for,
)
from zrepl_trio.endpoint.model import GuaranteeKind, Marks, Protection, Way
from zrepl_trio.errors import Refused
from zrepl_trio.replication.plan import FilesystemPlan
from zrepl_trio.zfs.model import FilesystemVersion

__all__ = ["NOTHING_KNOWN", "Dropped", "receiver_drops", "sender_drops", "senders_marks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Snapshots whose hold of the job goes, and bookmarks that are destroyed, as `@snapshot` and
    `#bookmark`, in the order in which they go; None: not known."""

    releases: tuple[str, ...] | None = None
    destroys: tuple[str, ...] | None = None


NOTHING_KNOWN = Dropped()


def senders_marks(plan: FilesystemPlan, told: Marks | None) -> Marks | None:
    """As told, with the versions that the plan knows of. Of a sender that tells neither its job nor its
    holds, its job is the one whose cursor is at the base of the next step; None where there is none, or
    more than one."""
    if told is not None:
        known = [*told.versions, *plan.bookmarks, *_sent(plan)]
        by_name = {(version.kind, version.name): version for version in known}
        return replace(told, versions=list(by_name.values()))
    first = plan.steps[0].from_ if plan.steps else plan.confirm and plan.confirm.from_
    found = [parse_cursor(v.name) for v in plan.bookmarks if first and v.guid == first.guid]
    jobs = {
        c.job for c in found if c and first and c.guid == first.guid and c.kind is CursorKind.CURSOR
    }
    if len(jobs) != 1:
        return None
    return Marks(job=jobs.pop(), versions=[*plan.bookmarks, *dict.fromkeys(_sent(plan))])


def _sent(plan: FilesystemPlan) -> list[FilesystemVersion]:
    sent = [v for step in plan.steps for v in (step.from_, step.to) if v and v.is_snapshot]
    return [*sent, plan.confirm.to] if plan.confirm is not None else sent


def sender_drops(
    plan: FilesystemPlan,
    streams: Sequence[range],
    marks: Marks | None,
    protection: Protection,
) -> Dropped:
    """What goes on the sender while the steps go in these streams, or a step that arrived earlier
    is confirmed."""
    if marks is None:
        return NOTHING_KNOWN
    path = plan.filesystem.path
    there, held = list(marks.versions), list(marks.holds or ())
    done: list[Changes] = []

    def do(changes: Changes) -> None:
        nonlocal there, held
        there, held = after_changes(path, changes, there, held)
        done.append(changes)

    def confirm(kind: GuaranteeKind, to: FilesystemVersion) -> None:
        do(
            after_confirmation(
                dataset=path, job=marks.job, kind=kind, to=to, versions=there, holds=held
            )
        )

    try:
        for of in streams:
            steps = plan.steps[of.start : of.stop]
            from_, to = steps[0].from_, steps[-1].to
            kind = kind_for(protection, initial=from_ is None)
            do(
                before_send(
                    dataset=path,
                    job=marks.job,
                    kind=kind,
                    from_=from_,
                    to=to,
                    between=[step.to for step in steps[:-1]],
                    versions=there,
                    holds=held,
                )
            )
            confirm(kind, to)
        if plan.confirm is not None:
            told = plan.confirm
            confirm(kind_for(told.protection, initial=told.from_ is None), told.to)
    except Refused:  # the name of a cursor gets too long: the step itself will say so
        return NOTHING_KNOWN
    bookmarks = {v.name for v in marks.versions if not v.is_snapshot}
    destroyed = [name for changes in done for name in changes.destroy if name in bookmarks]
    return Dropped(
        releases=None if marks.holds is None else _released(done, marks),
        destroys=tuple(f"#{name}" for name in dict.fromkeys(destroyed)),
    )


def receiver_drops(
    plan: FilesystemPlan,
    streams: Sequence[range],
    marks: Marks | None,
    protection: Protection,
) -> Dropped:
    """What goes on the receiver, with the way out of a conflict that is taken first. It has no
    bookmarks of ours."""
    if marks is None or marks.holds is None:
        return NOTHING_KNOWN
    held = list(marks.holds)
    tag = last_received_tag(marks.job)
    done: list[Changes] = []
    if plan.resolve is not None and plan.resolve.way is Way.KEEP_COPY:
        done.append(Changes(tag=tag, release=snapshots_held_by(held, tag)))
        held = []
    elif plan.resolve is not None and plan.resolve.to is not None:
        to = plan.resolve.to
        newer = {v.name for v in marks.versions if v.is_snapshot and v.createtxg > to.createtxg}
        release = tuple(name for name in snapshots_held_by(held, tag) if name in newer)
        hold = (to.name,) if release and to.name not in snapshots_held_by(held, tag) else ()
        done.append(Changes(tag=tag, hold=hold, release=release))
        _, held = after_changes(plan.filesystem.path, done[-1], [], held)
    for of in streams:
        first, last = plan.steps[of.start], plan.steps[of.stop - 1]
        changes = after_receive(
            job=marks.job,
            kind=kind_for(protection, initial=first.from_ is None),
            received=last.to,
            holds=held,
        )
        _, held = after_changes(plan.filesystem.path, changes, [], held)
        done.append(changes)
    return Dropped(releases=_released(done, marks), destroys=())


def _released(done: Sequence[Changes], marks: Marks) -> tuple[str, ...]:
    before = {(hold.snapshot, hold.tag) for hold in marks.holds or ()}
    names = [name for each in done for name in each.release if (name, each.tag) in before]
    return tuple(f"@{name}" for name in dict.fromkeys(names))
