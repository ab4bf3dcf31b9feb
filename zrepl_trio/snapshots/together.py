"""Snapshots of several filesystems under one name: at one moment in each pool, as far as zfs lets them.

`zfs snapshot` of several takes all of them or none. What it names as in the way is left out, and the rest
tried again at once; where it fails and names none, they are taken one by one, which is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from zrepl_trio.errors import DatasetExists, ZfsError
from zrepl_trio.zfs.batches import POINTER_BYTES, chunked, snapshot_refusals
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["Together", "take_alone", "take_together"]

log = structlog.get_logger()


@dataclass(slots=True)
class Together:
    """`errors`: why there is no snapshot of a filesystem. `taken`: of which of those only since there is one
    of that name. `apart`: why those that there are in a pool are not of one moment, by pool."""

    errors: dict[DatasetPath, str] = field(default_factory=dict)
    taken: list[DatasetPath] = field(default_factory=list)
    apart: dict[str, str] = field(default_factory=dict)


async def take_alone(zfs: Zfs, paths: Sequence[DatasetPath], name: str) -> Together:
    """Of each by itself."""
    result = Together()
    for path in paths:
        try:
            await zfs.snapshot(path, name)
        except ZfsError as error:
            result.errors[path] = str(error)
            if isinstance(error, DatasetExists):
                result.taken.append(path)
    return result


async def take_together(
    zfs: Zfs, paths: Sequence[DatasetPath], name: str, *, whole: bool = False
) -> Together:
    """Of all of them, pool by pool, with as few commands as take their names. More than one for a pool
    is no error, as all is taken as well as it can be: the log tells of it. `whole`: where the name is taken
    in one filesystem, none is taken of those that go with it, since they can have another name together.
    """
    result = Together()
    split: dict[str, str] = {}
    pools: dict[str, list[DatasetPath]] = {}
    for path in paths:
        pools.setdefault(path.pool, []).append(path)
    for pool, members in pools.items():
        beside = len(f"@{name}".encode()) + POINTER_BYTES
        chunks = list(chunked(members, beside, zfs.argument_bytes))
        if len(chunks) > 1:
            split[pool] = f"{len(members)} snapshots by {len(chunks)} commands"
        for chunk in chunks:
            members = [DatasetPath(path) for path in chunk]
            await _take_chunk(zfs, pool, members, name, result, whole=whole)
    if split:
        log.warning(
            "one command does not take so many names; the snapshots of each command are of one moment: "
            "a job each for fewer filesystems keeps together what belongs together",
            pools=", ".join(f"{pool}: {how}" for pool, how in split.items()),
        )
    for pool, why in result.apart.items():
        log.warning("the snapshots of a pool are not of one moment", pool=pool, err=why)
    return result


async def _take_chunk(
    zfs: Zfs, pool: str, left: list[DatasetPath], name: str, result: Together, *, whole: bool
) -> None:
    refused: list[DatasetPath] = []
    while left:
        try:
            await zfs.snapshot_all(left, name)
            break
        except ZfsError as error:
            if whole and isinstance(error, DatasetExists):
                result.errors |= dict.fromkeys([*left, *refused], str(error))
                result.taken += [*left, *refused]
                return
            named = [path for path in left if path in snapshot_refusals(error.stderr)]
            if not named and not error.stderr:  # it hangs, or cannot be run: so would each of them
                result.errors |= dict.fromkeys([*left, *refused], str(error))
                return
            if not named:
                result.apart[pool] = f"taken one by one, as all at once failed: {error}"
                named = left
            refused += named
            left = [path for path in left if path not in named]
    # each by itself, for what zfs says of it; what was in the way may also have gone
    alone = await take_alone(zfs, refused, name)
    result.errors |= alone.errors
    result.taken += alone.taken
    if taken := [path for path in refused if path not in alone.errors]:
        result.apart.setdefault(pool, f"only afterwards could be taken: {', '.join(taken)}")
