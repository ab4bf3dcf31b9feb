"""Making a replica fit again: by a rollback, by setting it aside as a copy, by a new name.

Both are the admin's explicit wish. Nothing here is done by `recv -F` or `destroy -r`, and nothing
to a replica that is no longer as it was when it was decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from zrepl_trio.endpoint.abstractions import last_received_tag, snapshots_held_by
from zrepl_trio.endpoint.aside import copy_name
from zrepl_trio.endpoint.model import ResolveRequest
from zrepl_trio.endpoint.protect import holds_on
from zrepl_trio.endpoint.refusals import Floor, no_floor
from zrepl_trio.endpoint.room import children_of, move_children
from zrepl_trio.errors import DatasetNotFound, Refused, ZfsError
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["follow_name", "roll_back", "set_aside"]


async def roll_back(
    zfs: Zfs, path: DatasetPath, job: str, request: ResolveRequest, *, floor: Floor = no_floor
) -> str:
    """Back to the snapshot both sides have, `zfs rollback -r`. The job's own hold moves there first;
    anybody else's hold on what would go is a refusal, and so is a `floor` that keeps any of it."""
    versions = await _unchanged(zfs, path, request)
    there = [version for version in versions if version.is_snapshot]
    guids = [version.guid for version in there]
    if request.to is None or request.to.guid not in guids:
        raise Refused(f"{path} is not rolled back: the snapshot to go back to is none of its own")
    at = guids.index(request.to.guid)
    base, newer = there[at], there[at + 1 :]
    kept = floor(versions)
    if stays := next((version for version in newer if version.name in kept), None):
        raise Refused(
            f"{path} is not rolled back: {stays.relative} would be destroyed, {kept[stays.name]}"
        )
    marks = [v for v in versions if not v.is_snapshot and v.createtxg > base.createtxg]
    if marks:
        raise Refused(
            f"{path} is not rolled back: its bookmark {marks[0].relative} would be destroyed with it, "
            "which another job may need; if nobody does: "
            f"`zfs destroy {marks[0].full(path)}`"
        )
    tag = last_received_tag(job)
    holds = await holds_on(zfs, path, newer)
    if foreign := [hold for hold in holds if hold.tag != tag]:
        first = foreign[0]
        raise Refused(
            f"{path} is not rolled back: {path}@{first.snapshot} is held by {first.tag!r}; if it "
            f"is not wanted any more: `zfs release {first.tag} {path}@{first.snapshot}`"
        )
    if holds:
        await zfs.hold(path, [base.name], tag)
        await zfs.release(path, [hold.snapshot for hold in holds], tag)
    await zfs.abort_receive(path)
    # what came since this look is not ours to destroy
    await zfs.rollback(path, base.name, destroy_newer=bool(newer))
    gone = ", ".join(version.relative for version in newer) or "what was written"
    return f"{path} was rolled back to @{base.name}; destroyed: {gone}"


async def set_aside(
    zfs: Zfs, path: DatasetPath, job: str, request: ResolveRequest, properties: Mapping[str, str]
) -> str:
    """Rename the replica, and let go of the job's hold on it: a copy is for whoever destroys it. If there
    is something below it, leave a placeholder with these properties in its place, and move that back
    below it: these are replicas of their own, and need not be sent anew."""
    versions = await _unchanged(zfs, path, request)
    copy = copy_name(path, request.stamp)
    await zfs.rename(path, copy)
    still_held = await _let_go(zfs, copy, versions, last_received_tag(job))
    if await children_of(zfs, copy):
        await zfs.create_filesystem(path, properties)
        await move_children(zfs, copy, path)
    return f"{path} was renamed to {copy}; it is sent anew{still_held}"


async def _let_go(zfs: Zfs, copy: DatasetPath, versions: list[FilesystemVersion], tag: str) -> str:
    """Release that tag on all of it. Gives what to say when that fails: the copy is there nonetheless."""
    try:
        held = snapshots_held_by(await holds_on(zfs, copy, versions), tag)
        if held:
            await zfs.release(copy, held, tag)
    except ZfsError as error:
        return (
            f"; the copy is still held, since that cannot be released ({error}): before you destroy it, "
            f"`zrepl-trio zfs-abstraction release-stale --fs {copy}`"
        )
    return ""


async def follow_name(
    zfs: Zfs,
    path: DatasetPath,
    olds: Sequence[DatasetPath],
    request: ResolveRequest,
    *,
    create_parents: Callable[[DatasetPath], Awaitable[None]],
) -> str:
    """Give the replica, which is the first of `olds` that fits, its new name `path`. Refused when there
    is another dataset of that name."""
    there = await _snapshots(zfs, path)
    if there is not None:
        if _fits(there, request):
            return f"{path} came with what is above it"
        raise Refused(
            f"{path} exists already, so that {olds[-1]} cannot get this name: rename or destroy one of "
            "the two"
        )
    for old in olds:
        there = await _snapshots(zfs, old)
        if there is not None and _fits(there, request):
            await create_parents(path)
            await zfs.rename(old, path)
            return f"{old} was renamed to {path}"
    raise Refused(
        f"{olds[-1]}: its snapshots have changed since the plan was made, or it is gone; it was not "
        f"renamed to {path}, run it again"
    )


async def _snapshots(zfs: Zfs, path: DatasetPath) -> list[FilesystemVersion] | None:
    """None when there is no such dataset."""
    try:
        return [version for version in await zfs.versions(path) if version.is_snapshot]
    except DatasetNotFound:
        return None


def _fits(snapshots: Sequence[FilesystemVersion], request: ResolveRequest) -> bool:
    return [v.guid for v in snapshots] == [v.guid for v in request.expected]


async def _unchanged(
    zfs: Zfs, path: DatasetPath, request: ResolveRequest
) -> list[FilesystemVersion]:
    """All its versions, if its snapshots are still those of the plan."""
    versions = await zfs.versions(path)
    if not _fits([version for version in versions if version.is_snapshot], request):
        raise Refused(
            f"{path}: its snapshots have changed since the plan was made; nothing was done, run it "
            "again"
        )
    return versions
