"""The snapshotter of one job: waits, snapshots each of its filesystems, tells the job, waits again.

No more than one snapshot at a time, one filesystem after another, each named by its own moment, as
zrepl does it; or, if asked to, all at one moment under one name. What fails on one filesystem is told and
leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo

import structlog
import trio

from zrepl_trio.clock import WallClock, local_zone
from zrepl_trio.config.cron import CronSpec
from zrepl_trio.config.timestamps import SnapshotNaming
from zrepl_trio.endpoint.listing import versions_of
from zrepl_trio.errors import ZfsError
from zrepl_trio.moments import RECHECK_S, Moment, until_shown
from zrepl_trio.snapshots.hooks import Hook, Step, StepState, run_around, shown
from zrepl_trio.snapshots.report import (
    FilesystemState,
    SnapperReport,
    SnapperState,
    TakenSnapshot,
)
from zrepl_trio.snapshots.rhythm import MOST_PASSED, newest_named, next_firing, passed, sync_point
from zrepl_trio.snapshots.together import Together, take_alone, take_together
from zrepl_trio.snapshots.unchanged import unchanged
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import Dataset
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import Zfs

__all__ = ["Snapper"]

log = structlog.get_logger()

_NAMES = 6
"""How many names, each a moment later than the one before, are tried where there is a snapshot of the first."""


class Snapper:
    """Takes the snapshots of the filesystems that the filter admits, at `rhythm`: seconds, or a cron spec;
    the hooks that mean a filesystem run around its snapshot. `atomic` takes all of a pool at one moment,
    `skip_unchanged` none of what was not written to since its newest one with the job's prefix.

    `local` is the zone of a spec that names none, and of names whose location is `Local`. `on_taken` is told
    after each run what became of it.
    """

    def __init__(
        self,
        zfs: Zfs,
        *,
        filesystems: FilesystemFilter,
        naming: SnapshotNaming,
        rhythm: float | CronSpec,
        clock: WallClock,
        hooks: Sequence[Hook] = (),
        atomic: bool = False,
        skip_unchanged: bool = False,
        local: Callable[[], tzinfo] = local_zone,
        on_taken: Callable[[SnapperReport], None] = lambda _report: None,
    ) -> None:
        self._zfs = zfs
        self._filter = filesystems
        self._naming = naming
        self._step = naming.step
        self._rhythm = rhythm
        self._clock = clock
        self._hooks = tuple(hooks)
        self._atomic = atomic
        self._skip_unchanged = skip_unchanged
        self._local = local
        self._on_taken = on_taken
        kind = "cron" if isinstance(rhythm, CronSpec) else "periodic"
        self._report = SnapperReport(kind=kind)
        self._progress: dict[DatasetPath, TakenSnapshot] = {}
        self._named: tuple[datetime, str] | None = None

    @property
    def report(self) -> SnapperReport:
        """What it does now, and what became of the last run."""
        return replace(self._report, progress=tuple(self._progress.values()))

    async def run(self, taken: Callable[[], None]) -> None:
        """Until cancelled; `taken` is called after each run, whatever became of it."""
        try:
            if isinstance(self._rhythm, CronSpec):
                await self._by_cron(self._rhythm, taken)
            else:
                await self._by_interval(self._rhythm, taken)
        finally:
            self._show(state=SnapperState.STOPPED, next_at=None)

    async def _by_interval(self, interval_s: float, taken: Callable[[], None]) -> None:
        first = Moment.after(interval_s, self._clock)
        self._show(state=SnapperState.SYNC_UP, next_at=None)
        try:
            first = Moment.at(await self._sync_point(interval_s), self._clock)
        except ZfsError as error:
            log.error("cannot find the rhythm of the snapshots that are there", err=str(error))  # noqa: TRY400 - zfs's words say it all
            self._show(state=SnapperState.SYNC_UP_ERROR_WAIT, error=str(error))
        self._show(next_at=first.wall)
        await first.come(self._clock)
        while True:
            following = Moment.after(interval_s, self._clock)
            await self._take()
            self._on_taken(self.report)
            taken()
            self._rest(following.wall)
            await following.come(self._clock)

    async def _by_cron(self, spec: CronSpec, taken: Callable[[], None]) -> None:
        after = self._clock.now()
        while True:
            due = next_firing(spec, after, self._local())
            self._rest(due)
            if not await until_shown(due, self._clock):
                log.warning("the clock was set back; the next time is looked for anew")
                after = self._clock.now()
                continue
            start = self._clock.now()
            await self._take()
            self._on_taken(self.report)
            taken()
            self._skipped(spec, start)
            after = self._clock.now()
            if timedelta() < due - after <= timedelta(seconds=RECHECK_S):
                after = due  # a clock that is set right by seconds does not come by that time again

    def _skipped(self, spec: CronSpec, start: datetime) -> None:
        """Tell of the times that came while the run lasted; those of a suspend before it have no part in that."""
        times = passed(spec, start, self._clock.now(), self._local())
        self._show(skipped=len(times))
        if times:
            log.warning(
                "times of the cron spec passed during a run",
                times=f"{MOST_PASSED} or more" if len(times) == MOST_PASSED else len(times),
                first=times[0].isoformat(),
            )

    async def _sync_point(self, interval_s: float) -> datetime:
        paths = [each.path for each in await self._datasets()]
        listed = await versions_of(self._zfs, paths, self._filter.roots)
        newest = {
            path: newest_named(versions, self._naming.prefix) for path, versions in listed.items()
        }
        now = self._clock.now()
        point = sync_point(newest, interval_s, now)
        for path in point.ahead:
            log.warning(
                "its newest snapshot is of the future: is the clock right?", filesystem=str(path)
            )
        if (point.at - now).total_seconds() > 1:
            for path in point.waiting:
                log.warning(
                    "it has no snapshot of this job yet, and gets the first with the others",
                    filesystem=str(path),
                    at=point.at.isoformat(timespec="seconds"),
                )
        return point.at

    async def _take(self) -> None:
        self._show(state=SnapperState.PLANNING, next_at=None, error="")
        self._progress = {}
        try:
            datasets = await self._datasets()
        except ZfsError as error:
            log.error("cannot list what to snapshot", err=str(error))  # noqa: TRY400
            self._show(error=str(error))
            return
        paths = [each.path for each in datasets]
        for number, hook in enumerate(self._hooks, 1):
            if not any(hook.filesystems.admits(path) for path in paths):
                log.warning(
                    "a hook means none of the job's filesystems", hook=hook.name, number=number
                )
        if not paths:
            log.warning("there is no filesystem to snapshot: does the job's filter admit any?")
        self._progress = {path: TakenSnapshot(path=path) for path in paths}
        self._show(state=SnapperState.SNAPSHOTTING)
        if self._skip_unchanged:
            for path in await unchanged(
                self._zfs, datasets, self._naming.prefix, self._filter.roots
            ):
                paths.remove(path)
                self._progress[path] = replace(
                    self._progress[path], state=FilesystemState.DONE, unchanged=True
                )
        for group in filter(None, [paths] if self._atomic else [[path] for path in paths]):
            await self._take_of(group)
        await trio.lowlevel.checkpoint()

    async def _take_of(self, paths: Sequence[DatasetPath]) -> None:
        """Under the first name that is free: a clock that was set back comes by its old times again."""
        step = self._step
        now = self._clock.now()
        for number in range(1 if step is None else _NAMES):
            when = now if step is None else now + number * step
            last = step is None or number == _NAMES - 1
            taken = await self._take_named(paths, self._name(when), whole=not last)
            if not taken or last:
                return
            log.warning(
                "there is a snapshot of that name; the next one tried has a later time. Was the clock set back?",
                filesystem=shown(taken),
                snapshot=self._name(when),
            )
            paths = taken

    async def _take_named(
        self, paths: Sequence[DatasetPath], name: str, *, whole: bool
    ) -> Sequence[DatasetPath]:
        """Those that have a snapshot of that name already. With hooks around each try, as they are told the
        name. `whole`: another name can be tried."""
        now = self._clock.now()
        for path in paths:
            self._progress[path] = TakenSnapshot(
                path=path, state=FilesystemState.STARTED, name=name, started=now
            )
        result = Together()

        async def take(left: Sequence[DatasetPath]) -> Mapping[DatasetPath, str]:
            nonlocal result
            if self._atomic:
                result = await take_together(self._zfs, left, name, whole=whole)
            else:
                result = await take_alone(self._zfs, left, name)
            return result.errors

        steps = await run_around(self._hooks, paths, name, take)
        for path in paths:
            of_it = [step for step in steps if path in step.filesystems]
            if whole and path in result.taken:
                continue
            why = result.apart.get(path.pool, "")
            self._progress[path] = self._told(self._progress[path], of_it, apart=why)
        return result.taken

    def _name(self, now: datetime) -> str:
        # on a clock that stands still meanwhile, all are named by one moment
        if self._named is None or self._named[0] != now:
            local = self._local() if self._naming.timestamp_location == "Local" else None
            self._named = (now, self._naming.name(now, local))
        return self._named[1]

    def _told(self, each: TakenSnapshot, steps: Sequence[Step], *, apart: str) -> TakenSnapshot:
        """How it went for one filesystem, by the steps that concern it."""
        wrong = [step for step in steps if step.state is StepState.ERROR]
        own = next(step for step in steps if step.edge is None)
        if own.state is StepState.OK:
            log.info("snapshot taken", filesystem=str(each.path), snapshot=each.name)
        else:
            why = own.error or own.state.value
            log.error("no snapshot", filesystem=str(each.path), snapshot=each.name, err=why)
        texts = [
            step.error if step.edge is None else f"{each.path}: {step.edge.value}: {step.error}"
            for step in wrong
        ]
        if wrong and not own.error:  # whether that was fatal is not to be seen in a hook's words
            taken = own.state is StepState.OK
            texts.append("the snapshot was taken" if taken else "no snapshot")
        if apart and own.state is StepState.OK:
            texts.append(f"{each.path}: its snapshot is not of one moment with the others: {apart}")
        return replace(
            each,
            hooks=tuple(map(str, steps)) if len(steps) > 1 else (),
            taken=own.state is StepState.OK,
            hook_failed=any(step.edge is not None for step in wrong),
            state=FilesystemState.ERROR if texts else FilesystemState.DONE,
            error="; ".join(texts),
            done=self._clock.now(),
        )

    async def _datasets(self) -> list[Dataset]:
        return [each for each in await self._zfs.datasets() if self._filter.admits(each.path)]

    def _rest(self, until: datetime) -> None:
        failed = bool(self.report.errors)
        state = SnapperState.ERROR_WAIT if failed else SnapperState.WAITING
        self._show(state=state, next_at=until)

    def _show(self, **changes: object) -> None:
        self._report = replace(self._report, **changes)  # type: ignore[arg-type]
