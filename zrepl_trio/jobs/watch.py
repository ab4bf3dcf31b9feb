"""What a job tells whoever keeps count of it; it neither knows nor cares who that is."""

from __future__ import annotations

from typing import Protocol

from zrepl_trio.jobs.base import Invocation
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.report import Report
from zrepl_trio.snapshots.report import SnapperReport

__all__ = ["UNWATCHED", "Watch"]


class Watch(Protocol):
    """Called from within the job's work: returns at once and raises nothing."""

    def replicating(self, job: str, report: Report) -> None:
        """A new picture of the run that goes on; many a second in a large run."""

    def pruned(self, job: str, report: PruneReport) -> None:
        """One side of a run has been pruned."""

    def snapshotted(self, job: str, report: SnapperReport) -> None:
        """It was time for the job's snapshots, and this became of them."""

    def run_ended(self, job: str, run: Invocation) -> None:
        """The run is over; its last picture came before."""

    def refused(self, job: str, client: str, count: int) -> None:
        """The client wanted so many snapshots destroyed that the job's floor keeps."""

    def unmatched(self, job: str, count: int) -> None:
        """The filesystems were listed, and so many entries of the job's filter name none of them."""


class _Unwatched:
    def replicating(self, job: str, report: Report) -> None:
        del job, report

    def run_ended(self, job: str, run: Invocation) -> None:
        del job, run

    def pruned(self, job: str, report: PruneReport) -> None:
        del job, report

    def snapshotted(self, job: str, report: SnapperReport) -> None:
        del job, report

    def refused(self, job: str, client: str, count: int) -> None:
        del job, client, count

    def unmatched(self, job: str, count: int) -> None:
        del job, count


UNWATCHED: Watch = _Unwatched()
"""Nobody keeps count."""
