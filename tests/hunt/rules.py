"""Keep rules as scenarios use them, and what each keeps, said a second time: the hunt takes nobody's word
for it. By the reference of zrepl's behaviour (1.14). Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

__all__ = ["Listed", "Rule", "in_order_taken", "kept_by", "rules_text"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A snapshot; `creation` in seconds since the epoch."""

    guid: int
    name: str
    creation: int
    createtxg: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One keep rule; what its type does not have is left alone."""

    type: str
    regex: str = ""
    negate: bool = False
    count: int = 0
    grid: str = ""
    hourly: int = 0
    daily: int = 0
    keep_snapshot_at_cursor: bool = True
    max_count: int | None = None
    max_age: int | None = None
    """In minutes."""

    def __str__(self) -> str:
        """As in a config."""
        words = [f"type: {self.type}"]
        match self.type:
            case "regex":
                words += [f'regex: "{self.regex}"', f"negate: {str(self.negate).lower()}"]
            case "last_n":
                words += [f"count: {self.count}", f'regex: "{self.regex}"']
            case "grid":
                words += [f'grid: "{self.grid}"', f'regex: "{self.regex}"']
            case "calendar":
                words += [f"hourly: {self.hourly}"]
                words += [f"daily: {self.daily}"] if self.daily else []
            case "not_replicated":
                words.append(
                    f"keep_snapshot_at_cursor: {str(self.keep_snapshot_at_cursor).lower()}"
                )
                if self.max_count is not None:
                    words.append(f"max_count: {self.max_count}")
                if self.max_age is not None:
                    words.append(f"max_age: {self.max_age}m")
            case _:
                raise AssertionError(self.type)
        return "{" + ", ".join(words) + "}"


def rules_text(rules: Sequence[Rule]) -> str:
    """The list, as in a config."""
    return "[" + ", ".join(map(str, rules)) + "]"


def kept_by(
    rules: Sequence[Rule],
    snapshots: Sequence[Listed],
    *,
    waiting: Collection[int] = (),
    cursor: int | None = None,
) -> set[int]:
    """The guids of those that a rule keeps. `waiting`: the guids of those that are not replicated; `cursor` is
    the guid at the job's cursor."""
    return {guid for rule in rules for guid in _kept(rule, snapshots, waiting, cursor)}


def in_order_taken(snapshots: Sequence[Listed]) -> list[Listed]:
    """With none older than one that was taken before it: a floor goes by the order, since times can be
    forged, and clocks set."""
    latest, found = 0, []
    for each in sorted(snapshots, key=lambda each: each.createtxg):
        latest = max(latest, each.creation)
        found.append(replace(each, creation=latest))
    return found


def _kept(
    rule: Rule, snapshots: Sequence[Listed], waiting: Collection[int], cursor: int | None
) -> set[int]:
    named = [each for each in snapshots if re.search(rule.regex, each.name)]
    by_age = sorted(named, key=lambda each: (each.creation, each.name))
    match rule.type:
        case "regex":
            matching = {each.guid for each in named}
            return {each.guid for each in snapshots} - matching if rule.negate else matching
        case "last_n":
            return {each.guid for each in by_age[-rule.count :]}
        case "grid":
            return _kept_by_grid(rule.grid, named)
        case "calendar":
            # snapshots of one second count in their order
            return _kept_by_calendar(rule, sorted(named, key=lambda each: each.creation))
        case "not_replicated":
            at_cursor = {cursor} if rule.keep_snapshot_at_cursor else set()
            left = sorted(
                (each for each in snapshots if each.guid in {*waiting, *at_cursor}),
                key=lambda each: each.createtxg,
            )
            if rule.max_count is not None:
                left = left[-rule.max_count :]
            if rule.max_age is not None:
                newest = max((each.creation for each in snapshots), default=0)
                left = [each for each in left if each.creation >= newest - 60 * rule.max_age]
            return {each.guid for each in left}
        case _:
            raise AssertionError(rule.type)


def _kept_by_grid(text: str, snapshots: Sequence[Listed]) -> set[int]:
    if not snapshots:
        return set()
    youngest = max(each.creation for each in snapshots)
    edge = 0.0  # of the age
    kept: set[int] = set()
    for part in text.split("|"):
        match = re.fullmatch(r"\s*(\d+)x(\d+)([mh])(?:\(keep=(\w+)\))?\s*", part)
        assert match is not None, part
        length = int(match[2]) * {"m": 60, "h": 3600}[match[3]]
        for _ in range(int(match[1])):
            inside = sorted(
                (each for each in snapshots if edge <= youngest - each.creation < edge + length),
                key=lambda each: each.creation,
            )
            keep = match[4] or "1"
            kept |= {each.guid for each in (inside if keep == "all" else inside[: int(keep)])}
            edge += length
    return kept


def _kept_by_calendar(rule: Rule, by_age: Sequence[Listed]) -> set[int]:
    """The first of each of the last hours, and days, and the newest."""
    kept = {by_age[-1].guid} if by_age else set()
    for count, day in ((rule.hourly, False), (rule.daily, True)):
        first_of: dict[datetime, int] = {}
        for each in by_age:
            at = datetime.fromtimestamp(each.creation, UTC).replace(minute=0, second=0)
            at = at.replace(hour=0) if day else at
            first_of.setdefault(at, each.guid)
        kept |= {first_of[at] for at in (sorted(first_of)[-count:] if count else ())}
    return kept
