"""The versions of many filesystems of one side, with few calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import trio

from zrepl_trio.endpoint.protocol import Endpoint, lists_in_bulk
from zrepl_trio.errors import TransportError, ZreplError, leaves
from zrepl_trio.replication.classify import main_error
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Listing", "versions_of_each"]

LISTED_AT_ONCE = 4
"""How many filesystems a peer that can't list in bulk is asked for at a time."""

Listing: TypeAlias = dict[DatasetPath, list[FilesystemVersion] | ZreplError]


async def versions_of_each(endpoint: Endpoint, filesystems: Sequence[DatasetPath]) -> Listing:
    """The versions of each, or why they cannot be had; a TransportError concerns all of them and is
    raised. One that is gone may be absent."""
    if lists_in_bulk(endpoint) and endpoint.lists_in_bulk:
        try:
            listing: Listing = dict(await endpoint.list_versions_of(filesystems))
        except TransportError:
            raise
        except ZreplError:
            # Perhaps one of them only, such as a dataset that a stuck child blocks: ask for each.
            pass
        else:
            return listing
    return await _list_one_by_one(endpoint, filesystems)


async def _list_one_by_one(endpoint: Endpoint, filesystems: Sequence[DatasetPath]) -> Listing:
    found: Listing = {}
    todo = iter(filesystems)
    broken: list[ZreplError] = []

    async def work(scope: trio.CancelScope) -> None:
        for filesystem in todo:  # shared: each worker takes the next one
            try:
                found[filesystem] = await endpoint.list_versions(filesystem)
            except* TransportError as group:
                broken.extend(leaves(group))
                scope.cancel()
            except* ZreplError as group:
                found[filesystem] = main_error(leaves(group))

    async with trio.open_nursery() as nursery:
        for _ in range(min(LISTED_AT_ONCE, len(filesystems))):
            nursery.start_soon(work, nursery.cancel_scope)
    if broken:
        raise broken[0]
    return found
