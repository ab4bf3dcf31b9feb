"""The passive job: serves its clients and starts nothing by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from zrepl_trio.jobs.base import NO_WISHES, JobStatus, JobType, Phase, SignalRefused, Wishes
from zrepl_trio.jobs.lock import held_lock
from zrepl_trio.replication.freshness import DatasetFreshness
from zrepl_trio.snapshots.report import SnapperReport
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.transport.base import Connection, Listener

__all__ = ["PassiveJob"]

log = structlog.get_logger()


_TIDY_S = 10.0
"""How often it is looked whether something that was kept for clients can go."""


class PassiveJob:
    """A `source` or `sink` job. Its lock is held for as long as `run` runs, and a source's `snapper` takes
    snapshots meanwhile. `tidy` drops what is kept for clients and is too old to be used, and tells whether
    anything is left; it is called every now and then, once a client has come, until nothing is."""

    def __init__(
        self,
        *,
        name: str,
        type: JobType,  # noqa: A002 - as in the config
        listener: Listener,
        serve: Callable[[Connection], Awaitable[None]],
        runtime_dir: str | None,
        freshness: Callable[[], tuple[DatasetFreshness, ...]] = tuple,
        snapper: Snapper | None = None,
        tidy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.type = type
        self._listener = listener
        self._serve = serve
        self._runtime_dir = runtime_dir
        self._freshness = freshness
        self._snapper = snapper
        self._tidy = tidy
        self._came = trio.Event()
        self._phase = Phase.STARTING
        self._connections = 0

    def status(self) -> JobStatus:
        return JobStatus(
            name=self.name,
            type=self.type,
            phase=self._phase,
            connections=self._connections,
            freshness=self._freshness(),
            snapshots=self._snapshots(),
        )

    def _snapshots(self) -> SnapperReport | None:
        if self.type is JobType.SINK:
            return None
        return self._snapper.report if self._snapper else SnapperReport(kind="manual")

    def wakeup(self, wishes: Wishes = NO_WISHES) -> None:
        del wishes
        # zrepl's words: the internal and passive jobs always answer like that (reference 6.5).
        raise SignalRefused("already woken up")

    def reset(self) -> None:
        raise SignalRefused("already reset")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with held_lock(self._runtime_dir, self.name):
            await self._run(self._snapper, task_status)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """As `run`, without the lock and snapshots: for a client that changes nothing."""
        await self._run(None, task_status)

    async def _run(self, snapper: Snapper | None, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._listener.serve, self._handle)
                nursery.start_soon(self._keep_tidy)
                if snapper is not None:
                    nursery.start_soon(snapper.run, lambda: None)
                self._phase = Phase.SERVING
                log.info("serving")
                task_status.started()
        finally:
            self._phase = Phase.STOPPED
            self._connections = 0

    async def _keep_tidy(self) -> None:
        while True:
            await self._came.wait()
            self._came = trio.Event()
            left = True
            while left or self._connections:
                await trio.sleep(_TIDY_S)
                left = self._tidy()

    async def _handle(self, connection: Connection) -> None:
        self._connections += 1
        self._came.set()
        try:
            await self._serve(connection)
        finally:
            self._connections -= 1
