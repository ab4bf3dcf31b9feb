"""Room for what zfs does not receive over a placeholder.

`zfs recv -F` takes no raw stream over a plain dataset, and none over an encrypted one. So the
placeholder steps aside, with all below it, the stream makes a dataset of its own, and what was
below gets its names back. Killed in between, planning finds it by its name (`SET_ASIDE`).
"""

from __future__ import annotations

import structlog

from zrepl_trio.endpoint.model import SET_ASIDE
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["bring_back", "make_room"]

log = structlog.get_logger()


def _aside(path: DatasetPath) -> DatasetPath:
    return DatasetPath.parse(f"{path}{SET_ASIDE}placeholder")


async def _children(zfs: Zfs, path: DatasetPath) -> list[DatasetPath]:
    depth = len(path.components) + 1
    return [d.path for d in await zfs.datasets([path]) if len(d.path.components) == depth]


async def _move_children(zfs: Zfs, source: DatasetPath, target: DatasetPath) -> None:
    for child in await _children(zfs, source):
        await zfs.rename(child, DatasetPath.parse(f"{target}/{child.components[-1]}"))


async def make_room(zfs: Zfs, path: DatasetPath) -> None:
    """The placeholder `path`, without snapshots, steps aside; afterwards nothing is there."""
    aside = _aside(path)
    log.info("the placeholder steps aside for what is received", filesystem=str(path))
    if await zfs.dataset(aside) is None:
        await zfs.rename(path, aside)
        return
    await _move_children(zfs, path, aside)
    await zfs.destroy_filesystem(path)


async def bring_back(zfs: Zfs, path: DatasetPath) -> None:
    """After a receive that made, or did not make, `path`: what stepped aside for it is back, if it can be.
    What goes wrong is only logged: planning sees to it."""
    aside = _aside(path)
    try:
        if await zfs.dataset(aside) is None:
            return
        there = await zfs.dataset(path)
        if there is None:
            await zfs.rename(aside, path)
        elif there.resume_token is None:
            await _move_children(zfs, aside, path)
            await zfs.destroy_filesystem(aside)
    except ZfsError as error:
        log.warning("what stepped aside is not back yet", filesystem=str(path), err=str(error))
