"""What keep rules keep of one filesystem's snapshots. Pure; behaviour reference 1.14.

Each rule tells what it would let go, and a snapshot goes only if every rule does: no rule, nothing
goes. Bookmarks are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import TypeAlias, assert_never

from zrepl_trio.config.grid import RetentionGrid
from zrepl_trio.config.keep import (
    KeepCalendar,
    KeepGrid,
    KeepLastN,
    KeepNotReplicated,
    KeepRegex,
    KeepRule,
)
from zrepl_trio.pruning.calendar import calendar_keeps
from zrepl_trio.zfs.model import FilesystemVersion

__all__ = ["Candidate", "Verdict", "any_goes", "evaluate", "grid_drops"]


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class Candidate:
    """A snapshot, and whether the other side has it, or later ones that make it dispensable. A value: nobody
    changes one (as for FilesystemVersion, `frozen` would cost what making thousands takes)."""

    snapshot: FilesystemVersion
    replicated: bool = False

    @property
    def name(self) -> str:
        return self.snapshot.name


@dataclass(unsafe_hash=True, slots=True)
class Verdict:
    """`kept_by`: the rules that keep the snapshot, by their index; none: it goes. A value, as Candidate."""

    snapshot: FilesystemVersion
    kept_by: tuple[int, ...]

    @property
    def goes(self) -> bool:
        return not self.kept_by


_Dropped: TypeAlias = set[int]
"""Indexes into the candidates."""


def evaluate(
    candidates: Sequence[Candidate], rules: Sequence[KeepRule], *, local: tzinfo = UTC
) -> list[Verdict]:
    """A verdict on each, in their order, which is that of the listing (by createtxg): zrepl lets it
    decide between snapshots of one second. Without rules all are kept, by none of them. `local` is
    the zone that a calendar calls Local."""
    if not rules:
        return [Verdict(each.snapshot, (-1,)) for each in candidates]
    dropped = [_drops(rule, candidates, local) for rule in rules]
    numbered = list(enumerate(dropped))
    return [
        Verdict(each.snapshot, tuple([number for number, drops in numbered if index not in drops]))
        for index, each in enumerate(candidates)
    ]


def any_goes(
    candidates: Sequence[Candidate], rules: Sequence[KeepRule], *, local: tzinfo = UTC
) -> bool:
    """Whether `evaluate` would let any of them go."""
    left = set(range(len(candidates))) if rules else set()
    for rule in rules:
        if not left:
            break
        left &= _drops(rule, candidates, local)
    return bool(left)


def _drops(rule: KeepRule, candidates: Sequence[Candidate], local: tzinfo) -> _Dropped:
    match rule:
        case KeepNotReplicated():
            waiting = [index for index, each in enumerate(candidates) if not each.replicated]
            return set(range(len(candidates))) - _within_budget(waiting, candidates, rule)
        case KeepRegex():
            return {
                index
                for index, each in enumerate(candidates)
                if rule.regex.search(each.name) == rule.negate
            }
        case KeepLastN():
            matching, others = _split(candidates, rule.regex.search)

            def age(index: int) -> tuple[int, str]:
                each = candidates[index]
                return each.snapshot.creation, each.name

            newest_first = sorted(matching, key=age, reverse=True)
            return {*others, *newest_first[rule.count :]}
        case KeepGrid():
            matching, others = _split(candidates, rule.regex.search)
            creations = [candidates[index].snapshot.creation for index in matching]
            return {*others, *(matching[each] for each in grid_drops(creations, rule.grid))}
        case KeepCalendar():
            matching, others = _split(candidates, rule.regex.search)
            creations = [candidates[index].snapshot.creation for index in matching]
            stay = calendar_keeps(creations, rule, local)
            return {*others, *(m for at, m in enumerate(matching) if at not in stay)}
        case _:
            assert_never(rule)


def _within_budget(
    waiting: Sequence[int], candidates: Sequence[Candidate], rule: KeepNotReplicated
) -> set[int]:
    """Those of the waiting snapshots (oldest first) that the rule may still keep. Their age counts
    from the newest snapshot of all, so that a clock set forward ages none."""
    within = list(waiting)
    if rule.max_count is not None:
        within = within[-rule.max_count :]
    if rule.max_age is not None:
        newest = max((each.snapshot.creation for each in candidates), default=0)
        oldest = newest - rule.max_age
        within = [index for index in within if candidates[index].snapshot.creation >= oldest]
    return set(within)


def _split(
    candidates: Sequence[Candidate], matches: Callable[[str], bool]
) -> tuple[list[int], list[int]]:
    matching: list[int] = []
    others: list[int] = []
    for index, each in enumerate(candidates):
        (matching if matches(each.snapshot.name) else others).append(index)
    return matching, others


def grid_drops(creations: Sequence[int], grid: RetentionGrid) -> set[int]:
    """The indexes of those that the grid does not keep. Its buckets are laid back in time from the
    youngest; each has its younger edge, not its older one, and keeps its *oldest* ones. What is
    older than all buckets goes."""
    if not creations:
        return set()
    oldest_first = sorted(range(len(creations)), key=creations.__getitem__)
    times = [creations[index] for index in oldest_first]
    edge: float = times[-1]
    dropped: set[int] = set()
    end = len(times)  # what is behind that is in a bucket
    for interval in grid.intervals:
        for _ in range(interval.count):
            if not end:
                return dropped
            edge -= interval.length_s
            at = end
            while at and times[at - 1] > edge:
                at -= 1
            if interval.keep is not None:
                dropped.update(oldest_first[at + interval.keep : end])
            end = at
    return dropped.union(oldest_first[:end])
