"""Room for what zfs does not receive over a placeholder.

`zfs recv -F` takes no raw stream over a plain dataset, and none over an encrypted one. So the
placeholder steps aside, with all below it, the stream makes a dataset of its own, and what was
below gets its names back. Killed in between, planning finds it by its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

from zrepl_trio.endpoint.aside import PLACEHOLDER_ASIDE
from zrepl_trio.endpoint.placeholders import NO_LONGER
from zrepl_trio.endpoint.protocol import ShowsHead, StreamSource
from zrepl_trio.errors import DatasetBusy, Refused, ZfsError
from zrepl_trio.zfs.argv import PLACEHOLDER
from zrepl_trio.zfs.names import DatasetPath, InvalidName
from zrepl_trio.zfs.port import Zfs
from zrepl_trio.zfs.streamhead import MOST_HEAD_BYTES, RECORD_BYTES, head_bytes, is_raw

__all__ = [
    "bring_back",
    "children_of",
    "comes_raw",
    "empty_placeholder",
    "make_room",
    "move_children",
    "room_for",
]

log = structlog.get_logger()

_BACK_S = 60.0
"""How long a receive that is cancelled may take to bring back what stepped aside."""


@asynccontextmanager
async def room_for(
    zfs: Zfs, path: DatasetPath, *, needed: bool, first: bool
) -> AsyncIterator[None]:
    """For the block that receives into `path`: if `needed`, the placeholder there steps aside. If this is
    its `first` snapshot, what stepped aside, then or before, is back afterwards, however the block ends.
    """
    try:
        if needed:
            await make_room(zfs, path)
        yield
    finally:
        if first:
            with trio.move_on_after(_BACK_S, shield=True):
                await bring_back(zfs, path)


async def comes_raw(stream: StreamSource) -> bool | None:
    """Whether that stream, of which nobody has told, is raw, by its first bytes; None where they cannot
    be looked at, or tell nothing. Raises what the stream does."""
    if not isinstance(stream, ShowsHead):
        return None
    head = await stream.head(RECORD_BYTES)
    if len(head) < (count := head_bytes(head)) <= MOST_HEAD_BYTES:
        head = await stream.head(count)
    return is_raw(head)


async def empty_placeholder(zfs: Zfs, path: DatasetPath) -> None:
    """Remove a placeholder's snapshots (of a recursive snapshot, say): `zfs recv -F` of a
    full stream wants none. A held one stops us: data that somebody wants is no placeholder's.
    """
    snapshots = [v for v in await zfs.versions(path) if v.is_snapshot]
    if held := [v.name for v in snapshots if v.userrefs]:
        raise DatasetBusy(
            f"{path} is marked as a placeholder but its snapshots are held: "
            f"{', '.join(held)}; see `zfs holds`, and if it holds real data run "
            f"`zfs set {PLACEHOLDER}={NO_LONGER} {path}`",
            dataset=path,
        )
    if not snapshots:
        return
    results = await zfs.destroy_snapshots(path, [v.name for v in snapshots])
    if failed := [result for result in results if result.error]:
        raise DatasetBusy(
            f"{path}: cannot receive over the placeholder: its snapshot "
            f"{failed[0].name} cannot be destroyed: {failed[0].error}",
            dataset=path,
        )


def _aside(path: DatasetPath) -> DatasetPath | None:
    """The name that the placeholder has meanwhile; None when it would be too long."""
    try:
        return DatasetPath.parse(f"{path}{PLACEHOLDER_ASIDE}")
    except InvalidName:
        return None


async def children_of(zfs: Zfs, path: DatasetPath) -> list[DatasetPath]:
    """The datasets directly below it."""
    depth = len(path.components) + 1
    return [d.path for d in await zfs.datasets([path]) if len(d.path.components) == depth]


async def move_children(zfs: Zfs, source: DatasetPath, target: DatasetPath) -> None:
    """All that is below the one goes below the other, which exists."""
    for child in await children_of(zfs, source):
        await zfs.rename(child, DatasetPath.parse(f"{target}/{child.components[-1]}"))


async def make_room(zfs: Zfs, path: DatasetPath) -> None:
    """The placeholder `path`, without snapshots, steps aside; afterwards nothing is there."""
    aside = _aside(path)
    if aside is None:
        raise Refused(
            f"{path}: its placeholder would have to step aside for what is received, and has too long a "
            "name for that: use a shorter root_fs"
        )
    log.info("the placeholder steps aside for what is received", filesystem=str(path))
    if await zfs.dataset(aside) is None:
        await zfs.rename(path, aside)
        return
    await move_children(zfs, path, aside)
    await zfs.destroy_filesystem(path)


async def bring_back(zfs: Zfs, path: DatasetPath) -> None:
    """After a receive that made, or did not make, `path`: what stepped aside for it is back, if it can be.
    What goes wrong is only logged: planning sees to it."""
    aside = _aside(path)
    if aside is None:
        return
    try:
        if await zfs.dataset(aside) is None:
            return
        there = await zfs.dataset(path)
        if there is None:
            await zfs.rename(aside, path)
        elif there.resume_token is None:
            await move_children(zfs, aside, path)
            await zfs.destroy_filesystem(aside)
    except ZfsError as error:
        log.warning("what stepped aside is not back yet", filesystem=str(path), err=str(error))
