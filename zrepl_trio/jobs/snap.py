"""The `snap` job: takes snapshots, and replicates nothing."""

from __future__ import annotations

import structlog
import trio

from zrepl_trio.jobs.base import JobStatus, JobType, Phase, SignalRefused
from zrepl_trio.jobs.lock import held_lock
from zrepl_trio.replication.policy import NO_OVERRIDES, Overrides
from zrepl_trio.snapshots.report import SnapperReport, SnapperState
from zrepl_trio.snapshots.snapper import Snapper

__all__ = ["SnapJob"]

log = structlog.get_logger()

_BUSY = {SnapperState.PLANNING, SnapperState.SNAPSHOTTING}


class SnapJob:
    """Its lock is held for as long as `run` runs. Without a `snapper` others take the snapshots."""

    type = JobType.SNAP

    def __init__(
        self,
        *,
        name: str,
        snapper: Snapper | None,
        runtime_dir: str,
        dormant: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._snapper = snapper
        self._runtime_dir = runtime_dir
        self._dormant = dormant
        self._phase = Phase.STARTING

    def status(self) -> JobStatus:
        report = self._snapper.report if self._snapper else SnapperReport(kind="manual")
        phase = self._phase
        if phase is Phase.WAITING and report.state in _BUSY:
            phase = Phase.RUNNING
        return JobStatus(
            name=self.name,
            type=self.type,
            phase=phase,
            next_wakeup=report.next_at,
            dormant=self._dormant,
            snapshots=report,
        )

    def wakeup(self, overrides: Overrides = NO_OVERRIDES) -> None:
        del overrides
        # in zrepl it prunes, and never snapshots (reference 6.5)
        raise SignalRefused("a wakeup has a snap job prune, which this version does not")

    def reset(self) -> None:
        raise SignalRefused("already reset")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with held_lock(self._runtime_dir, self.name):
            self._phase = Phase.WAITING
            try:
                task_status.started()
                if self._snapper is not None:
                    await self._snapper.run(lambda: None)
                await trio.sleep_forever()
            finally:
                self._phase = Phase.STOPPED
