"""The receiving side as one client has it, with a note of how fresh its replicas are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from zrepl_trio.endpoint.model import Filesystem, ReceiveRequest, ResolveRequest, SnapshotTimes
from zrepl_trio.endpoint.protocol import StreamSource
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.refusals import FLOOR
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.served import Served
from zrepl_trio.replication.freshness import newest_of
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["MOST_NOTED", "ServedReplicas"]

MOST_NOTED = 100_000
"""Of how many filesystems a client may tell before they are there."""


class ServedReplicas(Served):
    """What the client has listed, and what it has sent, is noted.

    Which of a replica's snapshots came from the sender only the sender knows for sure. The newest that
    is held counts: the hold of what was last received is there. What others take here has none. A
    zrepl-trio tells as it plans, with the sender's newest; a zrepl does not.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        identity: str,
        on_refused: Callable[[int], None] = lambda _count: None,
    ) -> None:
        super().__init__(receiver, identity=identity, on_refused=on_refused)
        self._receiver = receiver

    async def list_filesystems(self) -> list[Filesystem]:
        listed = await super().list_filesystems()
        self._keep([each for each in listed if not each.is_placeholder])
        return listed

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        versions = await super().list_versions(filesystem)
        held = newest_of([version for version in versions if version.userrefs])
        if held is not None:
            self._note(filesystem, held)
        return versions

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        await super().receive(request, stream)
        self._note(request.filesystem, request.to.creation)

    def _note(self, filesystem: DatasetPath, replicated: int) -> None:
        self._times[filesystem] = replace(self._known(filesystem), replicated=replicated)

    async def resolve(self, request: ResolveRequest) -> str:
        try:
            return await self._receiver.resolve(request)
        except Refused as error:
            if FLOOR in str(error):  # a rollback would have destroyed it
                self._on_refused(1)
            raise

    @property
    def tells_places(self) -> bool:
        return self._receiver.tells_places

    async def places_of(
        self, filesystems: Mapping[DatasetPath, SnapshotTimes]
    ) -> Mapping[DatasetPath, DatasetPath | Refused]:
        places = await self._receiver.places_of(filesystems)
        for path, times in filesystems.items():
            # of what may come here; not of any name that a client makes up, without an end
            noted = path in self._times or len(self._times) < MOST_NOTED
            if noted and times.newest is not None and isinstance(places[path], DatasetPath):
                self._times[path] = times
        return places
