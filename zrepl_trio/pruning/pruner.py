"""Prunes one or both sides of a job: has it planned, destroys, tells how it went.

In the order of zrepl (behaviour reference 6.4): the filesystems that the sender offers, by their
names, each with one request to destroy. What a side refuses is told, and the next one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.endpoint.refusals import is_left_alone
from zrepl_trio.errors import TransportError, ZreplError, leaves
from zrepl_trio.pruning.plan import (
    Fate,
    FilesystemPrune,
    PruningPolicy,
)
from zrepl_trio.pruning.planner import Planner, SidePlan
from zrepl_trio.pruning.report import (
    FilesystemPruneReport,
    LeftAlone,
    PruneReport,
    PruneState,
)
from zrepl_trio.replication.classify import main_error
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Pruner"]

DESTROYED_AT_ONCE = 1000
"""Snapshots in one request: a bound on its size, and on how long the peer works for its answer."""

SHOWN_EVERY_S = 0.5
"""How often it is told how far it has come, at most: each time of all filesystems."""

_WHY_LEFT = {
    Fate.HELD: "it is held (`zfs holds` shows by whom)",
    Fate.BASE: "the next replication starts from it",
    Fate.SPARED: "the job did not take it and no rule names it (`pruning.foreign: keep`)",
}
_MOST_TOLD = 5

log = structlog.get_logger()


class Pruner:
    """One run of pruning, as a `Planner` with the same endpoints plans it."""

    def __init__(
        self,
        *,
        sender: Endpoint,
        receiver: Endpoint | None,
        clock: WallClock,
        publish: Callable[[PruneReport], None] = lambda _report: None,
        receiver_down: ZreplError | None = None,
    ) -> None:
        self._planner = Planner(
            sender=sender, receiver=receiver, clock=clock, receiver_down=receiver_down
        )
        self._clock = clock
        self._publish = publish
        self._report: PruneReport

    async def prune(self, policy: PruningPolicy) -> PruneReport:
        """Do it; how it went. Raises nothing that is expected. Cancelled, it publishes what was done."""
        self._show(PruneReport(side=policy.side, started=self._clock.now()))
        try:
            await self._run(policy)
        except BaseException:
            self._end(PruneState.EXEC_ERR, error="stopped before its end")
            raise
        return self._report

    async def _run(self, policy: PruningPolicy) -> None:
        planned = await self._planner.plan(policy)
        if planned.error:
            log.error("pruning cannot be planned", side=policy.side.value, err=planned.error)
            self._end(PruneState.PLAN_ERR, error=planned.error)
            return
        await self._carry_out(policy, planned)

    def _show(self, report: PruneReport) -> None:
        self._report = report
        self._publish(report)

    def _end(self, state: PruneState, *, error: str = "") -> None:
        finished = self._clock.now()
        self._show(replace(self._report, state=state, error=error, finished=finished))

    async def _carry_out(self, policy: PruningPolicy, planned: SidePlan) -> None:
        pending = [FilesystemPruneReport.of(each, _left(each)) for each in planned.filesystems]
        done: list[FilesystemPruneReport] = []
        self._show(replace(self._report, state=PruneState.EXEC, pending=tuple(pending)))
        shown_at = trio.current_time()
        try:
            broken = ""
            for each in pending:
                if each.going and broken:
                    done.append(replace(each, error=f"{each.path}: {broken}"))
                elif each.going:
                    finished, broken = await self._destroy(policy, each)
                    done.append(finished)
                    if trio.current_time() - shown_at >= SHOWN_EVERY_S:
                        self._show(self._at(pending, done))
                        shown_at = trio.current_time()
                else:
                    if each.error:
                        log.error("filesystem cannot be pruned", err=each.error)
                    done.append(each)
        finally:
            self._report = self._at(pending, done)
        self._tell_refused()
        failed = any(each.error for each in done)
        self._end(PruneState.EXEC_ERR if failed else PruneState.DONE)

    def _tell_refused(self) -> None:
        refused = [(path, one) for path, one in self._report.left_alone if one.by_floor]
        if refused:
            path, first = refused[0]
            log.warning(
                "the floor of the other side keeps snapshots that the rules let go",
                side=self._report.side.value,
                snapshots=len(refused),
                first=f"{path}@{first.name}: {first.why}",
            )

    def _at(
        self, pending: Sequence[FilesystemPruneReport], done: Sequence[FilesystemPruneReport]
    ) -> PruneReport:
        return replace(self._report, pending=tuple(pending[len(done) :]), completed=tuple(done))

    # -- destroying -------------------------------------------------------------------------

    async def _destroy(
        self, policy: PruningPolicy, report: FilesystemPruneReport
    ) -> tuple[FilesystemPruneReport, str]:
        """The report, and what is wrong with the link to that side, if anything is."""
        assert report.plan is not None
        path, going = report.path, report.plan.going
        target = self._planner.target(policy)
        gone: set[str] = set()
        left, failed = list(report.left_alone), list[str]()
        broken, refused = "", False
        for start in range(0, len(going), DESTROYED_AT_ONCE):
            batch = going[start : start + DESTROYED_AT_ONCE]
            try:
                results = await target.endpoint.destroy_snapshots(path, batch)
            except* ZreplError as group:
                error = main_error(leaves(group))
                broken = str(error) if isinstance(error, TransportError) else ""
                failed.append(str(error))
                refused = True
            else:
                for result in results:
                    if not result.error:
                        gone.add(result.name)
                    elif is_left_alone(result.error):
                        left.append(LeftAlone(result.name, result.error))
                    else:
                        failed.append(f"@{result.name}: {result.error}")
            if refused:
                break  # so it would be with the next ones
        target.destroyed(path, gone)
        error_text = _failure(path, failed)
        say = log.error if failed else log.info
        say(
            "pruned",
            side=policy.side.value,
            filesystem=str(path),
            destroyed=len(gone),
            **({"left_alone": len(left)} if left else {}),
            **({"err": error_text} if failed else {}),
        )
        done = replace(report, destroyed=len(gone), left_alone=tuple(left), error=error_text)
        return done, broken


def _left(plan: FilesystemPrune) -> tuple[LeftAlone, ...]:
    return tuple(
        LeftAlone(each.snapshot.name, _WHY_LEFT[each.fate])
        for each in plan.let_go
        if each.fate in _WHY_LEFT
    )


def _failure(path: DatasetPath, failed: Sequence[str]) -> str:
    if not failed:
        return ""
    more = len(failed) - _MOST_TOLD
    told = "; ".join(failed[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
    return f"{path}: not all could be destroyed: {told}"
