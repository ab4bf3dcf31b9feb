"""What a hostile stream may make beside the snapshot that it is taken for."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from zrepl_trio.endpoint.readback import ORIGIN, is_clone
from zrepl_trio.errors import PolicyBreach, ZfsError
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["check_nothing_below", "drop_clone"]

log = structlog.get_logger()


async def drop_clone(zfs: Zfs, path: DatasetPath) -> None:
    """What came of a stream is not kept if that made it a clone: see `check_received`."""
    try:
        if is_clone(await zfs.properties(path, [ORIGIN])):
            log.warning("a part of a clone is dropped", filesystem=str(path))
            await zfs.abort_receive(path)
    except ZfsError as error:
        log.debug("nothing is kept, or it cannot be told", filesystem=str(path), err=str(error))


async def check_nothing_below(zfs: Zfs, path: DatasetPath, here: Collection[DatasetPath]) -> None:
    """zfs takes a range into the dataset, so a hostile sender could have it make others below."""
    strangers = [d.path for d in await zfs.datasets([path]) if d.path not in here]
    if strangers:
        raise PolicyBreach(
            f"{path}: {', '.join(strangers)} appeared while several snapshots were received, which "
            "may have held more than was announced: see what is in it, and destroy it if nobody "
            "made it; the next run goes on beside it"
        )
