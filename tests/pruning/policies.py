"""Rules and policies of the tests, in few words."""

from __future__ import annotations

from pydantic import TypeAdapter

from zrepl_trio.config.keep import Foreign, KeepRule
from zrepl_trio.pruning.plan import PruneSide, PruningPolicy

__all__ = ["ALL", "LAST_1", "NOT_REPLICATED", "policy", "rules"]

_RULES: TypeAdapter[tuple[KeepRule, ...]] = TypeAdapter(tuple[KeepRule, ...])

LAST_1: dict[str, object] = {"type": "last_n", "count": 1}
NOT_REPLICATED: dict[str, object] = {"type": "not_replicated"}
ALL: dict[str, object] = {"type": "regex", "regex": ".*"}


def rules(*wanted: dict[str, object]) -> tuple[KeepRule, ...]:
    return _RULES.validate_python(wanted)


def policy(
    *wanted: dict[str, object],
    side: PruneSide = PruneSide.SENDER,
    prefix: str | None = None,
    foreign: Foreign = "destroy",
) -> PruningPolicy:
    return PruningPolicy(side=side, rules=rules(*wanted), prefix=prefix, foreign=foreign)
