"""The placeholders above a replica: made, and read back, before anything is received below them."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.endpoint.placeholders import (
    PlaceholderEncryption,
    missing_parents,
    placeholder_properties,
)
from zrepl_trio.endpoint.readback import ENCRYPTION_PROPERTIES, check_placeholder
from zrepl_trio.errors import DatasetExists, PolicyBreach, ZfsError
from zrepl_trio.zfs.model import Dataset, Property
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["Parents"]

log = structlog.get_logger()


class Parents:
    """Makes the parents of one receiving job's replicas, of one after the other."""

    def __init__(self, zfs: Zfs, confined: Confinement, encryption: PlaceholderEncryption) -> None:
        self._zfs = zfs
        self._confined = confined
        self._encryption = encryption
        self._creating = trio.Lock()

    async def create(self, path: DatasetPath) -> None:
        """Make what is missing above `path`. Raises PolicyBreach, ZfsError, and Refused where the job does
        not say how."""
        async with self._creating:
            known: dict[DatasetPath, Dataset] = {}
            # upwards to the first that exists: mostly that is the parent itself
            for ancestor in reversed(path.ancestors()):
                dataset = await self._zfs.dataset(ancestor)
                if dataset is not None:
                    known[ancestor] = dataset
                    break
            existing = {a for top in known for a in (*top.ancestors(), top)}
            above: Mapping[str, Property] | None = None
            for parent in missing_parents(root=self._confined.root, target=path, existing=existing):
                properties = placeholder_properties(
                    parent,
                    client_root=self._confined.client_root,
                    encryption=self._encryption,
                )
                if above is None:
                    above = await self._zfs.properties(
                        parent.ancestors()[-1], ENCRYPTION_PROPERTIES
                    )
                log.info("placeholder is created", filesystem=str(parent))
                try:
                    await self._zfs.create_filesystem(parent, properties)
                except DatasetExists:
                    above = None  # somebody else was faster; it is there, which is what we need
                    continue
                above = await self._read_back(parent, properties, above)

    async def _read_back(
        self, path: DatasetPath, wanted: Mapping[str, str], above: Mapping[str, Property]
    ) -> Mapping[str, Property]:
        """The new placeholder's properties; one that is not as it should be is removed again, so
        that nothing is ever received below it."""
        names = list(dict.fromkeys((*ENCRYPTION_PROPERTIES, *wanted)))
        found = await self._zfs.properties(path, names)
        try:
            check_placeholder(path, found, wanted=wanted, parent=above)
        except PolicyBreach as breach:
            try:
                # zfs refuses it when there are snapshots or children, and no file can be in it
                await self._zfs.destroy_filesystem(path)
            except ZfsError as error:
                breach.add_note(f"it is still there: {error}")
            raise
        return found
