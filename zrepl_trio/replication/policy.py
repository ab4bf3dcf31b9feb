"""The job's answers to what replication must ask: protection, first replication, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from zrepl_trio.endpoint.model import Protection

__all__ = ["ANSWER_S", "InitialReplication", "ReplicationOptions"]

ANSWER_S = 15.0
"""How long one ping of the peer may take: dialling (10 s) and a little more."""


class InitialReplication(Enum):
    """`conflict_resolution.initial_replication`: what an empty receiver is given first."""

    MOST_RECENT = "most_recent"
    ALL = "all"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationOptions:
    """How one run behaves; the defaults are zrepl's.

    `steps` and `size_estimates` bound what runs at once. `attempts` is the most of them in a
    run, `reconnect_s` the longest wait for the link between two (0: don't wait), `answer_s` the
    longest wait for the answer to one ping, which may have to dial first.
    """

    protection: Protection = field(default_factory=Protection)
    initial: InitialReplication = InitialReplication.MOST_RECENT
    steps: int = 1
    size_estimates: int = 4
    attempts: int = 3
    reconnect_s: float = 600.0
    answer_s: float = ANSWER_S
