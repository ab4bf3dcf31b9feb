"""The job's answers to what replication must ask: protection, first replication, limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum
from typing import TypeAlias

from zrepl_trio.endpoint.model import Protection
from zrepl_trio.errors import Refused
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = [
    "ANSWER_S",
    "NO_OVERRIDES",
    "DivergencePolicy",
    "InitialReplication",
    "Overrides",
    "ReplicationOptions",
    "parse_overrides",
]

ANSWER_S = 15.0
"""How long one ping of the peer may take: dialling (10 s) and a little more."""


class InitialReplication(Enum):
    """`conflict_resolution.initial_replication`: what an empty receiver is given first."""

    MOST_RECENT = "most_recent"
    ALL = "all"
    FAIL = "fail"


class DivergencePolicy(Enum):
    """`conflict_resolution.divergence`: what becomes of a replica that no longer fits."""

    FAIL = "fail"
    ROLLBACK = "rollback"
    KEEP_COPY = "keep_copy"


Overrides: TypeAlias = Mapping[DatasetPath, DivergencePolicy]
"""Somebody's wish for one run: what becomes of that filesystem's replica, whatever the job says."""

NO_OVERRIDES: Overrides = {}


def parse_overrides(wishes: Iterable[str]) -> Overrides:
    """From texts `FILESYSTEM=rollback|keep_copy|fail`; Refused for anything else."""
    found: dict[DatasetPath, DivergencePolicy] = {}
    for wish in wishes:
        path, _, way = wish.rpartition("=")
        try:
            found[DatasetPath.parse(path)] = DivergencePolicy(way)
        except (InvalidName, ValueError):
            accepted = "|".join(policy.value for policy in DivergencePolicy)
            raise Refused(f"{wish!r} is not FILESYSTEM={accepted}") from None
    return found


@valueclass(frozen=True, slots=True, kw_only=True)
class ReplicationOptions:
    """How one run behaves; the defaults are zrepl's.

    `steps` and `size_estimates` bound what runs at once. `attempts` is the most of them in a
    run, `reconnect_s` the longest wait for the link between two (0: don't wait), `answer_s` the
    longest wait for the answer to one ping, which may have to dial first. `divergence` is the job's
    policy, `overrides` somebody's wish for this run, by filesystem; with `overrides_elsewhere` they may
    be of another job's filesystems, so that nothing is said of those that this sender does not offer. With `follow_renames` replicas
    are renamed as the sender's datasets were.
    """

    protection: Protection = field(default_factory=Protection)
    initial: InitialReplication = InitialReplication.MOST_RECENT
    divergence: DivergencePolicy = DivergencePolicy.FAIL
    overrides: Overrides = field(default_factory=dict)
    overrides_elsewhere: bool = False
    follow_renames: bool = False
    steps: int = 1
    size_estimates: int = 4
    attempts: int = 3
    reconnect_s: float = 600.0
    answer_s: float = ANSWER_S
