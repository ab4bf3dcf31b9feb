"""One nursery, one task a job: a job that fails is reported and tried again, the others go on.

The catch-all of the daemon is here (and around each accepted connection), nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.errors import ZreplError, leaves
from zrepl_trio.jobs.base import NO_WISHES, Job, JobStatus, Phase, SignalRefused, Wishes

__all__ = ["RestartPolicy", "Supervisor", "error_text"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Bounded exponential back-off: `first_s`, twice that, … up to `longest_s`.

    A job that ran for `healthy_s` before it failed starts over at `first_s`.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    healthy_s: float = 60.0

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (≥ 1)."""
        return float(min(self.longest_s, self.first_s * 2 ** min(failures - 1, 32)))


def error_text(error: BaseException) -> str:
    """What failed, in one statement a cause: groups are opened, our errors speak for themselves."""
    texts = [
        str(leaf) if isinstance(leaf, ZreplError) else f"{type(leaf).__name__}: {leaf}"
        for leaf in leaves(error)
    ]
    return "; ".join(dict.fromkeys(texts))


@dataclass(slots=True)
class _Seat:
    job: Job
    failed: JobStatus | None = None
    failures: int = 0


class Supervisor:
    """Runs the jobs and is the one to ask about them; `name`s are unique."""

    def __init__(self, jobs: Sequence[Job], *, clock: WallClock, policy: RestartPolicy) -> None:
        self._seats = {job.name: _Seat(job) for job in jobs}
        self._clock = clock
        self._policy = policy

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all jobs until cancelled; `started` once each was started or has failed once."""
        async with trio.open_nursery() as nursery:
            for seat in self._seats.values():
                await nursery.start(self._keep, seat)
            task_status.started()
            await trio.sleep_forever()

    def status(self) -> list[JobStatus]:
        """A picture of each job, in config order."""
        return [self._picture(seat) for seat in self._seats.values()]

    def wakeup(self, name: str, wishes: Wishes = NO_WISHES) -> None:
        """Wake that job, for a run by these wishes; SignalRefused when it is unknown, busy, passive or down."""
        self._standing(name).wakeup(wishes)

    def reset(self, name: str) -> None:
        """Cancel that job's invocation; SignalRefused as for `wakeup`."""
        self._standing(name).reset()

    def _standing(self, name: str) -> Job:
        seat = self._seats.get(name)
        if seat is None:
            raise SignalRefused(f"Job {name} does not exist")
        if seat.failed is not None:
            raise SignalRefused(
                f"job {name} has failed and waits for its restart: {seat.failed.error}"
            )
        return seat.job

    @staticmethod
    def _picture(seat: _Seat) -> JobStatus:
        present = seat.job.status()
        if seat.failed is None:
            return replace(present, failures=seat.failures)
        return replace(
            present,
            phase=Phase.FAILED,
            error=seat.failed.error,
            failures=seat.failures,
            restart_at=seat.failed.restart_at,
            next_wakeup=None,
        )

    async def _keep(self, seat: _Seat, *, task_status: trio.TaskStatus[None]) -> None:
        structlog.contextvars.bind_contextvars(job=seat.job.name, subsystem="job")
        announced = False

        def announce() -> None:
            nonlocal announced
            if not announced:
                announced = True
                task_status.started()

        while True:
            since = trio.current_time()
            error: BaseException | None = None
            try:
                await self._run_once(seat, announce)
            except* Exception as group:  # noqa: BLE001 - the daemon's one catch-all for jobs
                error = group
            if trio.current_time() - since >= self._policy.healthy_s:
                seat.failures = 0
            seat.failures += 1
            delay_s = self._policy.delay_s(seat.failures)
            seat.failed = replace(
                seat.job.status(),
                error=error_text(error) if error else "the job ended by itself",
                restart_at=self._clock.now() + timedelta(seconds=delay_s),
            )
            expected = error is None or all(isinstance(leaf, ZreplError) for leaf in leaves(error))
            log.error(
                "job failed",
                err=seat.failed.error,
                restart_in_s=delay_s,
                failures=seat.failures,
                **({} if expected else {"exc_info": error}),
            )
            # Whoever waits for all jobs to stand must not wait for one that can't.
            announce()
            await trio.sleep(delay_s)

    @staticmethod
    async def _run_once(seat: _Seat, announce: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(seat.job.run)
            seat.failed = None
            announce()
