"""The sending side as one client has it, with a note of how fresh that client's copies are."""

from __future__ import annotations

from collections.abc import Callable

from zrepl_trio.endpoint.abstractions import newest_cursor
from zrepl_trio.endpoint.model import Filesystem, SendRequest, SnapshotTimes
from zrepl_trio.jobs.served import Keeps, Served
from zrepl_trio.replication.freshness import newest_of
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["ServedPeer"]


class ServedPeer(Served):
    """What the client lists, and which steps it confirms, is noted. `cursor_job`: the job whose
    replication cursors tell what was confirmed before; None where other clients move them too.
    """

    def __init__(
        self,
        sender: Keeps,
        *,
        identity: str,
        cursor_job: str | None,
        on_refused: Callable[[int], None] = lambda _count: None,
    ) -> None:
        super().__init__(sender, identity=identity, on_refused=on_refused)
        self._cursor_job = cursor_job

    async def list_filesystems(self) -> list[Filesystem]:
        offered = await super().list_filesystems()
        self._keep(offered)
        return offered

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        versions = await super().list_versions(filesystem)
        cursor = newest_cursor(versions, self._cursor_job) if self._cursor_job else None
        self._times[filesystem] = SnapshotTimes(
            newest=newest_of(versions),
            replicated=self._known(filesystem).replicated if cursor is None else cursor.creation,
        )
        return versions

    async def send_completed(self, request: SendRequest) -> None:
        await super().send_completed(request)
        self._times[request.filesystem] = SnapshotTimes(
            newest=self._known(request.filesystem).newest, replicated=request.to.creation
        )
