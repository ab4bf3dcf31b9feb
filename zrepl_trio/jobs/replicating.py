"""What an invocation of a `push` or `pull` job does: connect, replicate, prune, tell how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

import structlog

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.model import Marks
from zrepl_trio.endpoint.protocol import Endpoint, TellsMarks
from zrepl_trio.errors import ConnectFailed, TransportError, ZreplError, with_notes
from zrepl_trio.jobs.active import Progress, Result
from zrepl_trio.jobs.base import NO_WISHES, Outcome, Wishes
from zrepl_trio.jobs.links import OpenPeer
from zrepl_trio.jobs.pruning import SidePlans, plan_sides, prune_sides, pruning_error
from zrepl_trio.pruning.plan import PruneSide, PruningPolicy
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.estimates import Sizes
from zrepl_trio.replication.link import link_error
from zrepl_trio.replication.plan import FilesystemPlan
from zrepl_trio.replication.planning import DecodeToken, plan_all
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.preview import FilesystemPreview, preview
from zrepl_trio.replication.report import Outcome as RunOutcome
from zrepl_trio.replication.report import Report
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.rpc.control import CONNECT_LIMIT_S
from zrepl_trio.rpc.heartbeat import WORK_LIMIT_S
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.transport.base import Connecter
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Replicating"]


log = structlog.get_logger()

_OUTCOMES = {
    RunOutcome.DONE: Outcome.DONE,
    RunOutcome.FILESYSTEMS_FAILED: Outcome.FILESYSTEM_ERRORS,
    RunOutcome.PLANNING_FAILED: Outcome.FAILED,
    RunOutcome.NOT_CONNECTED: Outcome.CONNECT_FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicating:
    """Replicates between `here` and the peer behind `connecter`, which sends if `pulls`, and then
    prunes by `pruning`, whatever came of it; the Work of a push or pull job. `open_peer` makes the
    peer's endpoint of the connecter."""

    connecter: Connecter
    here: Endpoint
    pulls: bool
    options: ReplicationOptions
    clock: WallClock
    decode_token: DecodeToken
    connect_limit_s: float = CONNECT_LIMIT_S
    work_limit_s: float = WORK_LIMIT_S
    shutdowns: ShutdownTotals | None = None
    pruning: tuple[PruningPolicy, ...] = ()
    open_peer: OpenPeer = open_remote

    async def plan(self, wishes: Wishes = NO_WISHES) -> list[FilesystemPreview]:
        """What a run by these wishes would do now; changes nothing on either side. Raises what keeps it from
        being planned: a TransportError, say."""
        async with self._peer() as peer:
            sender, receiver = await self._reached(peer)
            planned = await plan_all(
                sender,
                receiver,
                options=self._options(wishes),
                decode_token=self.decode_token,
            )
            plans = {
                plan.filesystem.path: plan
                for plan in planned.plans
                if isinstance(plan, FilesystemPlan)
            }
            sizes = Sizes(sender, plans, self.options.protection)
            await sizes.ask_all(at_once=self.options.size_estimates)
            ranges = sender.moves_ranges and receiver.moves_ranges
            senders = await self._marks(sender, plans.values(), receives=False)
            receivers = await self._marks(receiver, plans.values(), receives=True)
        return preview(
            planned,
            sizes.of,
            self.options.protection,
            ranges=ranges,
            sender=senders,
            receiver=receivers,
        )

    async def _marks(
        self, side: Endpoint, plans: Iterable[FilesystemPlan], *, receives: bool
    ) -> dict[DatasetPath, Marks]:
        """What this side holds of the filesystems that the plans do anything to, as far as it tells."""
        names: dict[DatasetPath, DatasetPath] = {}
        for plan in plans:
            if plan.steps or plan.confirm or plan.resolve:
                path = plan.filesystem.path
                rename = plan.rename if receives else None
                names[path] = rename.old[-1] if rename is not None else path
        if not names or not isinstance(side, TellsMarks):
            return {}
        found: dict[DatasetPath, Marks] = {}
        try:
            told = await side.marks_of(dict.fromkeys(names.values()))
        except TransportError:
            raise
        except ZreplError as error:
            log.warning("holds cannot be shown", err=str(error))
            return {}
        for path, name in names.items():
            marks = told.get(name)
            if isinstance(marks, Marks):
                found[path] = marks
            elif marks is not None:
                log.warning("holds cannot be shown", filesystem=str(path), err=str(marks))
        return found

    async def plan_pruning(self, wishes: Wishes = NO_WISHES) -> SidePlans:
        """What the pruning of a run by these wishes would destroy, were it now: of a push whose receiver is down
        on the sender, as such a run does. Raises what keeps that of a pull from being planned."""
        async with self._peer() as peer:
            error = await self._link_error(peer)
            if error is not None and self.pulls:
                raise error
            sender, receiver = self._sides(peer)
            sides = await plan_sides(
                self._prunable(error),
                sender=sender,
                receiver=receiver,
                clock=self.clock,
                wishes=wishes,
                receiver_down=error,
            )
        return SidePlans(sides=sides, receiver_down=error)

    def _prunable(self, error: ZreplError | None) -> list[PruningPolicy]:
        """What can be pruned if that is what is wrong with the link. A receiver that is down must not fill the
        sender's pool; of a pull nothing can go while nobody knows what its sender still has."""
        if error is None:
            return list(self.pruning)
        return [each for each in self.pruning if each.side is PruneSide.SENDER and not self.pulls]

    def _options(self, wishes: Wishes) -> ReplicationOptions:
        return replace(
            self.options,
            overrides=wishes.divergence,
            overrides_elsewhere=wishes.divergence_elsewhere,
        )

    async def _reached(self, peer: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Both sides, once the peer has answered; raises what keeps it from that."""
        error = await self._link_error(peer)
        if error is not None:
            raise error
        return self._sides(peer)

    async def _link_error(self, peer: Endpoint) -> ZreplError | None:
        error = await link_error([peer], answer_s=self.options.answer_s, data=False)
        return ConnectFailed(error) if isinstance(error, str) else error

    def _peer(self) -> AbstractAsyncContextManager[Endpoint]:
        return self.open_peer(
            self.connecter,
            connect_limit_s=self.connect_limit_s,
            work_limit_s=self.work_limit_s,
            shutdowns=self.shutdowns,
        )

    def _sides(self, peer: Endpoint) -> tuple[Endpoint, Endpoint]:
        return (peer, self.here) if self.pulls else (self.here, peer)

    async def __call__(
        self,
        publish: Callable[[Progress], None],
        /,
        *,
        patient: bool,
        wishes: Wishes = NO_WISHES,
    ) -> Result:
        async with self._peer() as peer:
            # Unattended, a run waits for a link that is down at first. Somebody who asked for
            # this run wants to be told at once what is wrong with the link.
            if not patient:
                error = await self._link_error(peer)
                if error is not None:
                    await self._prune_without(peer, error, publish, wishes)
                    return Result(outcome=Outcome.CONNECT_FAILED, error=with_notes(error))
            sender, receiver = self._sides(peer)
            report = await replicate(
                sender,
                receiver,
                self._options(wishes),
                report=publish,
                clock=self.clock,
                decode_token=self.decode_token,
            )
            pruned = await prune_sides(
                self.pruning,
                sender=sender,
                receiver=receiver,
                clock=self.clock,
                publish=publish,
                wishes=wishes,
            )
        return _result(report, pruned)

    async def _prune_without(
        self,
        peer: Endpoint,
        error: ZreplError,
        publish: Callable[[Progress], None],
        wishes: Wishes,
    ) -> None:
        sender, receiver = self._sides(peer)
        await prune_sides(
            self._prunable(error),
            sender=sender,
            receiver=receiver,
            clock=self.clock,
            publish=publish,
            wishes=wishes,
            receiver_down=error,
        )


def _result(report: Report, pruned: list[PruneReport]) -> Result:
    outcome = _OUTCOMES[report.outcome]
    if outcome is Outcome.CONNECT_FAILED:
        # that it was not reached for pruning either, says nothing new
        return Result(outcome=outcome, error=report.error)
    error = pruning_error(pruned)
    if error and outcome is Outcome.DONE:
        outcome = Outcome.FILESYSTEM_ERRORS
    return Result(outcome=outcome, error="\n".join(filter(None, (report.error, error))))
