"""Pruning as the work of a job: by itself (a snap job), or behind a replication."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import ZreplError
from zrepl_trio.jobs.active import Progress, Result
from zrepl_trio.jobs.base import NO_WISHES, Outcome, Wishes
from zrepl_trio.pruning.plan import PruningPolicy
from zrepl_trio.pruning.planner import Planner, SidePlan
from zrepl_trio.pruning.pruner import Pruner
from zrepl_trio.pruning.report import PruneReport, PruneState

__all__ = ["LocalPruning", "SidePlans", "plan_sides", "prune_sides", "pruning_error"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SidePlans:
    """What pruning would do on the sides that could be asked. `receiver_down` is why only the sender's can be told."""

    sides: Sequence[SidePlan]
    receiver_down: ZreplError | None = None


def _wished(policies: Sequence[PruningPolicy], wishes: Wishes) -> list[PruningPolicy]:
    return [each.confirmed() if wishes.destroy_foreign else each for each in policies]


async def prune_sides(
    policies: Sequence[PruningPolicy],
    *,
    sender: Endpoint,
    receiver: Endpoint | None,
    clock: WallClock,
    publish: Callable[[PruneReport], None],
    wishes: Wishes,
    receiver_down: ZreplError | None = None,
) -> list[PruneReport]:
    """Prune by each policy in turn; one that keeps all costs nothing and has no report. For `receiver_down`
    see `Planner`."""
    pruner = Pruner(
        sender=sender,
        receiver=receiver,
        clock=clock,
        publish=publish,
        receiver_down=receiver_down,
    )
    return [
        await pruner.prune(policy) for policy in _wished(policies, wishes) if not policy.keeps_all
    ]


async def plan_sides(
    policies: Sequence[PruningPolicy],
    *,
    sender: Endpoint,
    receiver: Endpoint | None,
    clock: WallClock,
    wishes: Wishes = NO_WISHES,
    receiver_down: ZreplError | None = None,
) -> list[SidePlan]:
    """What `prune_sides` would do now, and what it would free; changes nothing."""
    planner = Planner(sender=sender, receiver=receiver, clock=clock, receiver_down=receiver_down)
    return [
        await planner.measured(await planner.plan(policy)) for policy in _wished(policies, wishes)
    ]


def pruning_error(reports: Sequence[PruneReport]) -> str:
    """What went wrong, for a person; empty when nothing did."""
    return "\n".join(
        f"pruning ({report.side.value}): {error}" for report in reports for error in report.errors
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPruning:
    """Prunes what `sender` offers by the one `policy`; the Work of a snap job."""

    sender: Endpoint
    policy: PruningPolicy
    clock: WallClock

    async def plan(self, wishes: Wishes = NO_WISHES) -> list[SidePlan]:
        """What a run by these wishes would destroy now."""
        return await plan_sides(
            [self.policy], sender=self.sender, receiver=None, clock=self.clock, wishes=wishes
        )

    async def __call__(
        self,
        publish: Callable[[Progress], None],
        /,
        *,
        patient: bool,
        wishes: Wishes = NO_WISHES,
    ) -> Result:
        del patient
        reports = await prune_sides(
            [self.policy],
            sender=self.sender,
            receiver=None,
            clock=self.clock,
            publish=publish,
            wishes=wishes,
        )
        error = pruning_error(reports)
        if any(report.state is PruneState.PLAN_ERR for report in reports):
            return Result(outcome=Outcome.FAILED, error=error)
        return Result(outcome=Outcome.FILESYSTEM_ERRORS if error else Outcome.DONE, error=error)
