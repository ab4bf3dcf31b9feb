"""Lists both sides and plans every filesystem, with few calls for many of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from zrepl_trio.endpoint.model import Filesystem, GuaranteeKind, SnapshotTimes
from zrepl_trio.endpoint.protocol import Endpoint, Places
from zrepl_trio.errors import BadResumeToken, Refused, TransportError, ZreplError
from zrepl_trio.replication.confirming import unconfirmed
from zrepl_trio.replication.freshness import times_of
from zrepl_trio.replication.listing import Listing, versions_of_each
from zrepl_trio.replication.plan import (
    FilesystemPlan,
    Place,
    Plan,
    Refusal,
    RunPlan,
    Side,
    UnusableToken,
    paired,
    plan_filesystem,
)
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.renames import Followers, left_behind, renamed
from zrepl_trio.zfs.model import ResumeToken, VersionKind
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["DecodeToken", "plan_all"]

DecodeToken: TypeAlias = Callable[[str], Awaitable[ResumeToken]]

_NOT_OFFERED = (
    "{path}: the sender offers no such filesystem, so that there is nothing to resolve\n  next: look at "
    "what it offers with `zrepl-trio plan`, and give the name as it stands there"
)
_RENAMED = (
    "it was {old} on the sender, and is sent anew under its new name: to go on from the replica, "
    "rename that one on the receiver too, before its first step, or let the job do it: "
    "`conflict_resolution.renames: follow`"
)

_CANNOT_FOLLOW = (
    "it was {old} on the sender, and is sent anew under its new name: the replica cannot be gone on "
    "with{why}, so it does not follow, and stays as it is until somebody destroys it"
)


async def plan_all(
    sender: Endpoint,
    receiver: Endpoint,
    *,
    options: ReplicationOptions,
    decode_token: DecodeToken,
    without_token: Collection[DatasetPath] = (),
    modified: Collection[DatasetPath] = (),
) -> RunPlan:
    """The plan of one attempt; changes nothing on either side.

    `without_token`: filesystems whose partly received state is to be given up; `modified`: those whose
    replica zfs has called so. Raises what
    concerns all of them: listing the filesystems failed, or the link did. What concerns one
    is its Refusal.
    """
    received = await receiver.list_filesystems()
    offered = await sender.list_filesystems()
    pairs = paired(offered, received)
    old_names = renamed(offered, received)
    # replicas under their old names, by the new one
    follow = left_behind(offered, received) | (old_names if options.follow_renames else {})
    by_name = {each.path: each for each in received} if follow else {}
    followed = {path: by_name[old] for path, old in follow.items()}
    followers = Followers()
    unnamed: set[DatasetPath] = set()  # that should have followed
    coming: set[DatasetPath] = set()  # of which the receiver has no more than a part
    senders = [ours.path for ours, _ in pairs if not ours.is_placeholder]
    receivers = [
        theirs.path
        for _, theirs in pairs
        if theirs is not None and (not theirs.is_placeholder or theirs.resume_token)
    ]
    receivers += [replica.path for replica in followed.values()]
    sender_versions = await versions_of_each(sender, senders)
    receiver_versions = await versions_of_each(receiver, receivers)
    plans: list[Plan] = []
    for ours, theirs in pairs:
        replica = followed.get(ours.path)
        note = _RENAMED
        if replica is not None:
            theirs = replace(replica, path=ours.path)
            receiver_versions[ours.path] = receiver_versions.get(replica.path, [])
        token: ResumeToken | UnusableToken | ZreplError | None = None
        if theirs is not None and theirs.resume_token and ours.path not in without_token:
            token = await _decoded(theirs.resume_token, decode_token)
        plan = _plan(
            ours,
            theirs,
            sender_versions,
            receiver_versions,
            token=token,
            options=options,
            refused=ours.path in modified,
        )
        if replica is not None and _does_not_fit(plan):
            # somebody may have given it its name on purpose, to have the filesystem sent anew
            theirs = replica = None
            kind = plan.kind if isinstance(plan, Refusal) else None
            note = _CANNOT_FOLLOW.replace("{why}", f" ({kind.value})" if kind else "")
            receiver_versions[ours.path] = []
            plan = _plan(
                ours,
                None,
                sender_versions,
                receiver_versions,
                token=None,
                options=options,
                refused=False,
            )
        if isinstance(plan, FilesystemPlan) and replica is not None:
            there = receiver_versions[ours.path]
            assert not isinstance(there, ZreplError)
            rename, after = followers.follow(replica.path, ours.path, there)
            plan = replace(plan, rename=rename, after=after)
        elif replica is not None:
            unnamed.add(ours.path)
        elif isinstance(plan, FilesystemPlan) and plan.steps and ours.path in old_names:
            plan = replace(plan, note=note.format(old=old_names[ours.path]))
        for above in unnamed.intersection(ours.path.ancestors()):
            # a placeholder made there now would keep the name from it for good
            text = f"{ours.path}: on the receiver, {above} has to get its new name first, see there"
            plan = Refusal(filesystem=ours, text=text, times=plan.times)
        for above in coming.intersection(ours.path.ancestors()) if replica is not None else ():
            text = f"{ours.path}: its replica gets its name once {above} has been received"
            plan = Refusal(filesystem=ours, text=text, times=plan.times, later=True)
        if (
            theirs is not None
            and theirs.resume_token
            and not (isinstance(plan, FilesystemPlan) and plan.present)
        ):
            coming.add(ours.path)
        plans.append(plan)
    plans += _not_offered(offered, options)
    placed = await _placed(plans, receiver)
    return RunPlan(plans=tuple(placed), received=frozenset(each.path for each in received))


def _not_offered(offered: Collection[Filesystem], options: ReplicationOptions) -> list[Refusal]:
    """Of each wish for a filesystem that is not there: one misspelt, say."""
    if options.overrides_elsewhere:
        return []
    return [
        Refusal(
            filesystem=Filesystem(path=path), text=_NOT_OFFERED.format(path=path), offered=False
        )
        for path in sorted(options.overrides.keys() - {each.path for each in offered})
    ]


def _does_not_fit(plan: Plan) -> bool:
    return plan.conflict is not None and (isinstance(plan, Refusal) or plan.resolve is not None)


def _plan(
    ours: Filesystem,
    theirs: Filesystem | None,
    sender_versions: Listing,
    receiver_versions: Listing,
    *,
    token: ResumeToken | UnusableToken | ZreplError | None,
    options: ReplicationOptions,
    refused: bool,
) -> Plan:
    path = ours.path
    sent = sender_versions.get(path, [])
    received = receiver_versions.get(path, [])
    for what, result in (
        ("the sender's versions cannot be listed", sent),
        ("the receiver's versions cannot be listed", received),
        ("the receiver's resume token cannot be decoded", token),
    ):
        if isinstance(result, ZreplError):
            return Refusal(filesystem=ours, text=f"{path}: {what}: {result}")
    assert not isinstance(sent, ZreplError)
    assert not isinstance(received, ZreplError)
    assert not isinstance(token, ZreplError)
    plan = plan_filesystem(
        sender=Side(filesystem=ours, versions=sent),
        receiver=Side(filesystem=theirs, versions=received) if theirs is not None else None,
        token=token,
        initial=options.initial,
        divergence=options.overrides.get(path, options.divergence),
        cursors=options.protection.incremental is not GuaranteeKind.NOTHING,
        refused=refused,
    )
    if isinstance(plan, FilesystemPlan) and not plan.steps and not ours.is_placeholder:
        plan = replace(plan, confirm=unconfirmed(path, sent, received, options.protection))
    times = times_of(sent, received)
    if isinstance(plan, FilesystemPlan) and (plan.steps or plan.confirm):
        bookmarks = tuple([v for v in sent if v.kind is VersionKind.BOOKMARK])
        return replace(plan, bookmarks=bookmarks, times=times)
    return replace(plan, times=times)


async def _placed(plans: Sequence[Plan], receiver: Endpoint) -> list[Plan]:
    """The plans with their places, where the receiver tells them."""
    if not isinstance(receiver, Places) or not receiver.tells_places:
        return list(plans)
    # a placeholder is not sent, so it needs no place; nor does what the sender does not have
    paths = [
        plan.filesystem.path
        for plan in plans
        if not plan.filesystem.is_placeholder and (isinstance(plan, FilesystemPlan) or plan.offered)
    ]
    times = {plan.filesystem.path: plan.times or SnapshotTimes() for plan in plans}
    asked = {
        each: times.get(each, SnapshotTimes())
        for path in paths
        for each in (*path.ancestors(), path)
    }
    try:
        places = await receiver.places_of(asked)
    except TransportError:
        raise
    except ZreplError:
        return list(plans)  # what it will not tell, it may do nonetheless
    placeable = frozenset(paths)
    return [
        _in_place(plan, places) if plan.filesystem.path in placeable else plan for plan in plans
    ]


def _in_place(plan: Plan, places: Mapping[DatasetPath, DatasetPath | Refused]) -> Plan:
    path = plan.filesystem.path
    place = places[path]
    if isinstance(place, Refused) and isinstance(plan, Refusal):
        return plan  # it has told its own trouble
    if isinstance(place, Refused):
        return Refusal(filesystem=plan.filesystem, text=f"{path}: {place}", times=plan.times)
    parents = []
    for ancestor in path.ancestors():
        above = places[ancestor]
        if isinstance(above, DatasetPath) and place.is_below(above):
            parents.append(ancestor)
    return replace(plan, place=Place(path=place, parents=tuple(parents)))


async def _decoded(token: str, decode: DecodeToken) -> ResumeToken | UnusableToken | ZreplError:
    try:
        return await decode(token)
    except BadResumeToken as error:
        return UnusableToken(str(error))
    except ZreplError as error:
        # zfs itself failed: that says nothing about the token, so it is not given up
        return error
