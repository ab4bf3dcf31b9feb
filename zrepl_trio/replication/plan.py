"""From listings to steps, for one filesystem. Pure.

A partly received state is finished first. One that can't be (its snapshot is gone, say) is
given up in favour of a fresh step, which makes the receiver drop it: nothing committed is lost
by that. What can't be planned is a Refusal, which carries the conflict, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias, assert_never

from zrepl_trio.endpoint.model import Filesystem, ResolveRequest, SendRequest, SnapshotTimes, Way
from zrepl_trio.replication.conflicts import ConflictKind, conflict_kind, conflict_text
from zrepl_trio.replication.diff import (
    AlreadyPresent,
    Conflict,
    Diverged,
    IncrementalPath,
    Modified,
    NoCommonAncestor,
    NoSenderSnapshots,
    Occupied,
    Versions,
    incremental_path,
    sorted_versions,
)
from zrepl_trio.replication.policy import DivergencePolicy, InitialReplication
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, ResumeToken
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "FilesystemPlan",
    "Place",
    "Plan",
    "Refusal",
    "RunPlan",
    "Side",
    "Step",
    "UnusableToken",
    "limited_to",
    "paired",
    "plan_filesystem",
]


@valueclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stream: from `from_` (None: full) to the snapshot `to`, or the rest of it."""

    to: FilesystemVersion
    from_: FilesystemVersion | None = None
    resume_token: str | None = None


@valueclass(frozen=True, slots=True)
class UnusableToken:
    """A resume token that could not be decoded, and why."""

    reason: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a filesystem: how it is listed, and its versions."""

    filesystem: Filesystem
    versions: Sequence[FilesystemVersion] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the receiver puts a filesystem; `parents` are those of the sender's names
    above it that are put above it there, topmost first."""

    path: DatasetPath
    parents: tuple[DatasetPath, ...]


@valueclass(frozen=True, slots=True, kw_only=True)
class FilesystemPlan:
    """What to do for one filesystem, in order; no steps: it is up to date.

    `exists`: the receiver has a dataset in that place, be it a placeholder. `present`: it has
    real data there, so that children can be put below it. `resolve` is what the receiver does
    first, for the conflict that it settles. `rename` comes before that: the replica follows the name
    that the sender's dataset has now, once that of `after` has. `confirm` is what the sender was never
    told of, of a filesystem without steps. `note` says what was given up. `times`: as the listings
    show them. `place` is None where the receiver, a zrepl, does not tell it. `bookmarks` are the sender's,
    where there is anything to do.
    """

    filesystem: Filesystem
    steps: tuple[Step, ...]
    exists: bool
    present: bool
    note: str = ""
    confirm: SendRequest | None = None
    rename: ResolveRequest | None = None
    after: DatasetPath | None = None
    resolve: ResolveRequest | None = None
    conflict: Conflict | None = None
    times: SnapshotTimes | None = None
    place: Place | None = None
    bookmarks: tuple[FilesystemVersion, ...] = ()

    @property
    def parents(self) -> tuple[DatasetPath, ...]:
        """The sender's names that must be in their places before this one can be."""
        ancestors = self.filesystem.path.ancestors()
        return self.place.parents if self.place is not None else tuple(ancestors)


@valueclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why there is no plan; `text` has several lines and ends with the next action. `later`: there will
    be one in the next attempt, once something else is done. Not `offered` is what somebody wished to be
    resolved, and the sender does not have.

    `times` is None when it is that a side could not be listed, `place` as a plan's.
    """

    filesystem: Filesystem
    text: str
    conflict: Conflict | None = None
    kind: ConflictKind | None = None
    later: bool = False
    offered: bool = True
    times: SnapshotTimes | None = None
    place: Place | None = None


Plan: TypeAlias = FilesystemPlan | Refusal


@valueclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What one attempt does: for each of the sender's filesystems what to send, or why it can't.

    Parents first. `received` are the datasets on the receiver, placeholders included, under the
    sender's names.
    """

    plans: tuple[Plan, ...]
    received: frozenset[DatasetPath] = frozenset()


def paired(
    sender: Iterable[Filesystem], receiver: Iterable[Filesystem]
) -> list[tuple[Filesystem, Filesystem | None]]:
    """Each of the sender's filesystems with the receiver's of the same name, parents first."""
    theirs = {filesystem.path: filesystem for filesystem in receiver}
    ours = {filesystem.path: filesystem for filesystem in sender}
    order = sorted(ours, key=lambda path: path.components)
    return [(ours[path], theirs.get(path)) for path in order]


def plan_filesystem(
    *,
    sender: Side,
    receiver: Side | None,
    token: ResumeToken | UnusableToken | None = None,
    initial: InitialReplication = InitialReplication.MOST_RECENT,
    divergence: DivergencePolicy = DivergencePolicy.FAIL,
    cursors: bool = True,
    refused: bool = False,
) -> Plan:
    """The steps that bring the receiver up to date, or why there are none.

    `token` is the decoded token of the receiver's listing, None when it has none or when it is
    to be given up. `divergence` is what may be done to a replica that does not fit; `cursors` as in
    `conflict_kind`. `refused`: zfs has just called the replica modified.
    """
    filesystem = sender.filesystem
    name = filesystem.path
    if filesystem.is_placeholder:
        if receiver is None or receiver.filesystem.is_placeholder:
            return _plan(filesystem, receiver, ())
        return Refusal(
            filesystem=filesystem,
            text=f"{name}: a placeholder on the sender, but real data on the receiver\n"
            "  next: rename or destroy the replica on the receiver, or leave the filesystem out",
        )
    note = ""
    settles = refused and divergence is not DivergencePolicy.FAIL
    if (
        token is not None
        and not settles
        and receiver is not None
        and receiver.filesystem.resume_token
    ):
        resumed = _resumed(sender, receiver, token)
        if isinstance(resumed, Step):
            later = [
                v
                for v in sorted_versions(sender.versions)
                if v.is_snapshot and v.createtxg > resumed.to.createtxg
            ]
            return _plan(filesystem, receiver, (resumed, *_increments([resumed.to, *later])))
        note = f"the partly received state is given up and dropped: {resumed}"
    real = receiver is not None and not receiver.filesystem.is_placeholder
    path = incremental_path(receiver.versions if receiver and real else (), sender.versions)
    match path:
        case IncrementalPath():
            plan = _plan(filesystem, receiver, _increments(path.versions), note)
            assert receiver is not None
            return _unmodified(plan, receiver, path, divergence, initial, refused=refused)
        case AlreadyPresent():
            return _plan(filesystem, receiver, ())
        case NoCommonAncestor(receiver=()) if receiver is not None and _in_the_way(receiver):
            occupied = Occupied(sender=path.sender, written=receiver.filesystem.written)
            return _settled(filesystem, receiver, occupied, divergence, initial) or Refusal(
                filesystem=filesystem,
                text=conflict_text(name, occupied),
                conflict=occupied,
                kind=ConflictKind.OCCUPIED,
            )
        case NoCommonAncestor(receiver=()):
            return _initial(filesystem, receiver, path, initial, note)
        case NoCommonAncestor() | NoSenderSnapshots() | Diverged():
            settled = _settled(filesystem, receiver, path, divergence, initial)
            if settled is not None:
                return settled
            kind = conflict_kind(
                path,
                sender_guid=filesystem.dataset_guid,
                replica_of=receiver.filesystem.dataset_guid if receiver is not None else None,
                cursors=cursors,
            )
            text = conflict_text(name, path, kind)
            return Refusal(filesystem=filesystem, text=text, conflict=path, kind=kind)
        case _:
            assert_never(path)


def _unmodified(
    plan: FilesystemPlan,
    receiver: Side,
    path: IncrementalPath,
    divergence: DivergencePolicy,
    initial: InitialReplication,
    *,
    refused: bool,
) -> Plan:
    """The plan, and what is done first about a replica that was modified: once zfs says so, as the job
    wants it. Before, what it has `written` may come from no more than a mount; to roll that back
    costs nothing, to send all anew would."""
    written = receiver.filesystem.written
    if not (written or refused):
        return plan
    conflict = Modified(
        sender=path.versions[1:],
        receiver=tuple(v for v in sorted_versions(receiver.versions) if v.is_snapshot),
        ancestor=path.ancestor,
        written=written,
    )
    if refused or divergence is DivergencePolicy.ROLLBACK:
        settled = _settled(plan.filesystem, receiver, conflict, divergence, initial)
        if settled is not None:
            return settled
    return replace(plan, conflict=conflict)


def _settled(
    filesystem: Filesystem,
    receiver: Side | None,
    conflict: NoCommonAncestor | NoSenderSnapshots | Diverged | Modified | Occupied,
    divergence: DivergencePolicy,
    initial: InitialReplication,
) -> Plan | None:
    """The plan by the job's policy; None where it has none for this conflict."""
    request = ResolveRequest(
        filesystem=filesystem.path,
        way=Way.KEEP_COPY,
        expected=conflict.receiver,
    )
    match divergence, conflict:
        case DivergencePolicy.ROLLBACK, Diverged():
            to = next(v for v in request.expected if v.guid == conflict.ancestor.guid)
            steps = _increments(list(dict.fromkeys([conflict.ancestor, *conflict.sender_only])))
            plan = _plan(filesystem, receiver, steps)
            resolve = replace(request, way=Way.ROLLBACK, to=to)
            return replace(plan, resolve=resolve, conflict=conflict)
        case DivergencePolicy.ROLLBACK, Modified():
            steps = _increments([conflict.ancestor, *conflict.sender])
            resolve = replace(request, way=Way.ROLLBACK, to=request.expected[-1])
            return replace(_plan(filesystem, receiver, steps), resolve=resolve, conflict=conflict)
        case DivergencePolicy.KEEP_COPY, Diverged() | NoCommonAncestor() | Modified() | Occupied():
            place = Filesystem(path=filesystem.path, is_placeholder=True)
            sent = conflict.sender
            if isinstance(conflict, Modified):
                sent = (conflict.ancestor, *sent)
            empty = NoCommonAncestor(sender=sent, receiver=())
            anew = _initial(filesystem, Side(filesystem=place), empty, initial, "")
            if isinstance(anew, FilesystemPlan):
                return replace(anew, resolve=request, conflict=conflict)
            return anew
        case _:
            return None


def limited_to(plan: FilesystemPlan, last_target: int) -> FilesystemPlan:
    """The plan up to and including the step to the guid that the run first aimed at.

    A later attempt of a run so ends where the first one meant to. A target that is gone
    (pruned meanwhile) limits nothing.
    """
    for index, step in enumerate(plan.steps):
        if step.to.guid == last_target:
            return replace(plan, steps=plan.steps[: index + 1])
    return plan


def _plan(
    filesystem: Filesystem, receiver: Side | None, steps: Iterable[Step], note: str = ""
) -> FilesystemPlan:
    snapshots = receiver is not None and any(v.is_snapshot for v in receiver.versions)
    placeholder = receiver is not None and receiver.filesystem.is_placeholder
    first_receive_is_partial = (
        receiver is not None and bool(receiver.filesystem.resume_token) and not snapshots
    )
    return FilesystemPlan(
        filesystem=filesystem,
        steps=tuple(steps),
        exists=receiver is not None and (placeholder or not first_receive_is_partial),
        present=snapshots and not placeholder,
        note=note,
    )


def _increments(versions: Sequence[FilesystemVersion]) -> list[Step]:
    return [Step(from_=before, to=after) for before, after in pairwise(versions)]


def _in_the_way(receiver: Side) -> bool:
    """Of one without snapshots: whether it has other data than a first receive that was cut."""
    listed = receiver.filesystem
    return not listed.is_placeholder and not listed.resume_token


def _initial(
    filesystem: Filesystem,
    receiver: Side | None,
    conflict: NoCommonAncestor,
    initial: InitialReplication,
    note: str,
) -> Plan:
    name = filesystem.path
    snapshots: Versions = tuple(v for v in conflict.sender if v.is_snapshot)
    if not snapshots:
        return Refusal(
            filesystem=filesystem,
            text=f"{name}: the sender has bookmarks only, and a first replication needs a "
            f"snapshot\n  next: take a snapshot of {name}",
            conflict=conflict,
        )
    match initial:
        case InitialReplication.MOST_RECENT:
            return _plan(filesystem, receiver, [Step(to=snapshots[-1])], note)
        case InitialReplication.ALL:
            steps = [Step(to=snapshots[0]), *_increments(snapshots)]
            return _plan(filesystem, receiver, steps, note)
        case InitialReplication.FAIL:
            return Refusal(
                filesystem=filesystem,
                text=f"{name}: the receiver does not have it, and the job forbids a first "
                "replication\n  next: set `conflict_resolution.initial_replication` to "
                "`most_recent` or `all`",
                conflict=conflict,
            )
        case _:
            assert_never(initial)


def _resumed(sender: Side, receiver: Side, token: ResumeToken | UnusableToken) -> Step | str:
    """The step that the token resumes, or why it can't be resumed."""
    if isinstance(token, UnusableToken):
        return f"its resume token cannot be read ({token.reason})"
    named, _, snapshot = token.to_name.partition("@")
    if named != sender.filesystem.path:
        return f"it came from {named!r}"
    newest = next((v for v in reversed(sorted_versions(receiver.versions)) if v.is_snapshot), None)
    if (newest.guid if newest is not None else None) != token.from_guid:
        return "the receiver's snapshots changed since it was begun"
    versions = sorted_versions(sender.versions)
    to = next((v for v in versions if v.is_snapshot and v.guid == token.to_guid), None)
    if to is None:
        return f"the sender no longer has the snapshot @{snapshot} that it belongs to"
    # the last of equals is the snapshot, if both it and a bookmark of it are there
    from_ = next((v for v in reversed(versions) if v.guid == token.from_guid), None)
    if token.from_guid is not None and (from_ is None or from_.createtxg >= to.createtxg):
        return f"the sender no longer has what @{snapshot} was sent from"
    return Step(from_=from_, to=to, resume_token=receiver.filesystem.resume_token)
