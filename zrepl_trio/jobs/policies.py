"""From checked config sections to what may be destroyed."""

from __future__ import annotations

from zrepl_trio.clock import WallClock, local_zone
from zrepl_trio.config.model import PullJob, PushJob, SinkJob, SnapJob, SourceJob
from zrepl_trio.config.rules import ManualSnapshotting, Snapshotting
from zrepl_trio.endpoint.refusals import Floor, no_floor
from zrepl_trio.pruning.floor import FloorRules
from zrepl_trio.pruning.plan import PruneSide, PruningPolicy

__all__ = ["floor", "local_policy", "policies"]


def policies(section: PullJob | PushJob) -> tuple[PruningPolicy, ...]:
    """For the sender and then for the receiver, as zrepl prunes them."""
    pruning = section.pruning
    prefix = _prefix(section.snapshotting) if isinstance(section, PushJob) else None
    return tuple(
        PruningPolicy(
            side=side, rules=rules, prefix=prefix, foreign=pruning.foreign, local=local_zone()
        )
        for side, rules in (
            (PruneSide.SENDER, pruning.keep_sender),
            (PruneSide.RECEIVER, pruning.keep_receiver),
        )
    )


def local_policy(section: SnapJob) -> PruningPolicy:
    """For the only side of a snap job."""
    return PruningPolicy(
        side=PruneSide.LOCAL,
        rules=section.pruning.keep,
        prefix=_prefix(section.snapshotting),
        foreign=section.pruning.foreign,
        local=local_zone(),
    )


def floor(section: SinkJob | SourceJob, clock: WallClock) -> Floor:
    """What no client can have destroyed."""
    if section.pruning is None:
        return no_floor
    return FloorRules(
        job=section.name, rules=section.pruning.floor, now=clock.now, local=local_zone()
    )


def _prefix(snapshotting: Snapshotting) -> str | None:
    """How the names of the job's own snapshots begin; None where it takes none."""
    return None if isinstance(snapshotting, ManualSnapshotting) else snapshotting.prefix
