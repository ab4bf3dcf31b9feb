"""What keep rules keep of one filesystem's snapshots. Pure; behaviour reference 1.14.

Each rule tells what it would let go, and a snapshot goes only if every rule does: no rule, nothing
goes. Bookmarks are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from operator import itemgetter
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
from zrepl_trio.config.regex import Regex
from zrepl_trio.pruning.calendar import calendar_keeps
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion

__all__ = [
    "Candidate",
    "Verdict",
    "evaluate",
    "going",
    "grid_drops",
    "keepers",
    "waits",
]


@valueclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A snapshot, and whether the other side has it, or later ones that make it dispensable."""

    snapshot: FilesystemVersion
    replicated: bool = False

    @property
    def name(self) -> str:
        return self.snapshot.name


@valueclass(frozen=True, slots=True)
class Verdict:
    """`kept_by`: the rules that keep the snapshot, by their index; none: it goes."""

    snapshot: FilesystemVersion
    kept_by: tuple[int, ...]

    @property
    def goes(self) -> bool:
        return not self.kept_by


_AGE = itemgetter(0, 1)

_Dropped: TypeAlias = set[int]
"""Indexes into the candidates."""


def evaluate(
    candidates: Sequence[Candidate], rules: Sequence[KeepRule], *, local: tzinfo = UTC
) -> list[Verdict]:
    """A verdict on each, in their order, which is that of the listing (by createtxg): zrepl lets it
    decide between snapshots of one second. Without rules all are kept, by none of them. `local` is
    the zone that a calendar calls Local."""
    waiting = [index for index, each in enumerate(candidates) if not each.replicated]
    snapshots = [each.snapshot for each in candidates]
    kept_by = keepers(snapshots, waiting, rules, local=local)
    return list(map(Verdict, snapshots, kept_by))


def keepers(
    snapshots: Sequence[FilesystemVersion],
    waiting: Sequence[int],
    rules: Sequence[KeepRule],
    *,
    local: tzinfo = UTC,
) -> list[tuple[int, ...]]:
    """`Verdict.kept_by` of each; those `waiting`, by their index, oldest first, are not replicated."""
    if not rules:
        return [(-1,)] * len(snapshots)
    kept_by: list[tuple[int, ...]] = [()] * len(snapshots)
    for number, rule in enumerate(rules):
        drops = _drops(rule, snapshots, waiting, local)
        if len(drops) < len(snapshots):
            for index, before in enumerate(kept_by):
                if index not in drops:
                    kept_by[index] = (*before, number)
    return kept_by


def going(
    snapshots: Sequence[FilesystemVersion],
    waiting: Sequence[int],
    rules: Sequence[KeepRule],
    *,
    local: tzinfo = UTC,
) -> set[int]:
    """The indexes of those for which `keepers` would have none."""
    left = set(range(len(snapshots))) if rules else set()
    for rule in rules:
        if not left:
            break
        left &= _drops(rule, snapshots, waiting, local)
    return left


def waits(
    snapshots: Sequence[FilesystemVersion], waiting: Sequence[int], rules: Sequence[KeepRule]
) -> set[int]:
    """The indexes of those that would be among `going`, were nothing `waiting`, and so are not."""
    kept: set[int] = set()
    for rule in rules:
        if isinstance(rule, KeepNotReplicated):
            kept |= _within_budget(waiting, snapshots, rule)
    return kept


def _drops(
    rule: KeepRule,
    snapshots: Sequence[FilesystemVersion],
    waiting: Sequence[int],
    local: tzinfo,
) -> _Dropped:
    match rule:
        case KeepNotReplicated():
            return set(range(len(snapshots))) - _within_budget(waiting, snapshots, rule)
        case KeepRegex():
            found = rule.regex.search_all([each.name for each in snapshots])
            return {index for index, matches in enumerate(found) if matches == rule.negate}
        case KeepLastN():
            matching, others = _split(snapshots, rule.regex)
            if len(matching) <= rule.count:
                return set(others)

            ages = [(snapshots[index].creation, snapshots[index].name, index) for index in matching]
            ages.sort(key=_AGE, reverse=True)
            return {*others, *[index for _, _, index in ages[rule.count :]]}
        case KeepGrid():
            matching, others = _split(snapshots, rule.regex)
            creations = [snapshots[index].creation for index in matching]
            return {*others, *[matching[each] for each in grid_drops(creations, rule.grid)]}
        case KeepCalendar():
            matching, others = _split(snapshots, rule.regex)
            creations = [snapshots[index].creation for index in matching]
            stay = calendar_keeps(creations, rule, local)
            return {*others, *(m for at, m in enumerate(matching) if at not in stay)}
        case _:
            assert_never(rule)


def _within_budget(
    waiting: Sequence[int], snapshots: Sequence[FilesystemVersion], rule: KeepNotReplicated
) -> set[int]:
    """Those of the waiting snapshots (oldest first) that the rule may still keep. Their age counts
    from the newest snapshot of all, so that a clock set forward ages none."""
    within = list(waiting)
    if rule.max_count is not None:
        within = within[-rule.max_count :]
    if rule.max_age is not None:
        newest = max((each.creation for each in snapshots), default=0)
        oldest = newest - rule.max_age
        within = [index for index in within if snapshots[index].creation >= oldest]
    return set(within)


def _split(snapshots: Sequence[FilesystemVersion], regex: Regex) -> tuple[Sequence[int], list[int]]:
    found = regex.search_all([each.name for each in snapshots])
    if all(found):
        return range(len(found)), []
    matching = [index for index, matches in enumerate(found) if matches]
    return matching, [index for index, matches in enumerate(found) if not matches]


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
        length_s, keep = interval.length_s, interval.keep
        for _ in range(interval.count):
            if not end:
                return dropped
            edge -= length_s
            at = end
            while at and times[at - 1] > edge:
                at -= 1
            if keep is not None and end - at > keep:
                dropped.update(oldest_first[at + keep : end])
            end = at
    return dropped.union(oldest_first[:end])
