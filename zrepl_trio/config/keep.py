"""What is kept when a job prunes: the keep rules and the sections that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from zrepl_trio.config.base import Section, bad
from zrepl_trio.config.fields import (
    Amount,
    Count,
    Flag,
    Grid,
    Interval,
    RequiredRegex,
    SearchRegex,
    TimeZone,
    nonempty,
    null_is_empty_list,
)
from zrepl_trio.config.regex import Regex

__all__ = [
    "FloorPruning",
    "Foreign",
    "KeepCalendar",
    "KeepGrid",
    "KeepLastN",
    "KeepNotReplicated",
    "KeepRegex",
    "KeepRule",
    "Pruning",
    "SnapPruning",
    "keeps_all",
]


class KeepNotReplicated(Section):
    """Keep what has not been replicated yet."""

    type: Literal["not_replicated"]
    keep_snapshot_at_cursor: Flag = True
    """Keep also the newest replicated snapshot."""
    max_count: Count | None = None
    """Of those, the newest so many at most. A key of zrepl-trio."""
    max_age: Interval | None = None
    """Of those, none older than this, counted from the newest snapshot. A key of zrepl-trio."""


class KeepLastN(Section):
    """Keep the newest snapshots."""

    type: Literal["last_n"]
    count: Count
    """How many."""
    regex: SearchRegex = Regex.parse("")
    """Of those whose name matches; empty matches all."""


class KeepGrid(Section):
    """Keep snapshots thinned out by age."""

    type: Literal["grid"]
    grid: Grid
    """Buckets from young to old, such as `1x1h(keep=all) | 24x1h | 14x1d`."""
    regex: RequiredRegex
    """Names that the grid means; it keeps no others."""


class KeepRegex(Section):
    """Keep snapshots by name."""

    type: Literal["regex"]
    regex: RequiredRegex
    """Searched for in the name, unanchored."""
    negate: Flag = False
    """Keep those that do not match."""


class KeepCalendar(Section):
    """Keep the first snapshot of each hour, day, week, month and year, and the newest one. A rule of
    zrepl-trio."""

    type: Literal["calendar"]
    hourly: Amount = 0
    """Of the newest so many hours that have one."""
    daily: Amount = 0
    """Of the newest so many days."""
    weekly: Amount = 0
    """Of the newest so many weeks, which begin on Monday."""
    monthly: Amount = 0
    """Of the newest so many months."""
    yearly: Amount = 0
    """Of the newest so many years."""
    timezone: TimeZone = "UTC"
    """Where the clock goes by which they begin: UTC, Local or an IANA name."""
    regex: SearchRegex = Regex.parse("")
    """Of snapshots whose name matches; empty matches all."""

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not any((self.hourly, self.daily, self.weekly, self.monthly, self.yearly)):
            raise bad("has no count", "at least one of hourly, daily, weekly, monthly, yearly")
        return self


KeepRule = Annotated[
    KeepNotReplicated | KeepLastN | KeepGrid | KeepRegex | KeepCalendar,
    Field(discriminator="type"),
]
_KeepRules = Annotated[
    tuple[KeepRule, ...],
    BeforeValidator(null_is_empty_list),
    AfterValidator(nonempty),
    Field(json_schema_extra={"minItems": 1}),
]


Foreign = Literal["ask", "keep", "destroy"]


class Pruning(Section):
    """What to keep on either side; a snapshot goes only if no rule of its side keeps it."""

    keep_sender: _KeepRules
    """Rules for the sending side."""
    keep_receiver: _KeepRules
    """Rules for the receiving side."""
    foreign: Foreign = "ask"
    """What becomes of snapshots that the job did not take and no rule names, and that would go: they
    stay until somebody confirms it, stay for good, or go. A key of zrepl-trio."""


class SnapPruning(Section):
    """What a snap job keeps."""

    keep: _KeepRules
    """A snapshot goes only if no rule keeps it."""
    foreign: Foreign = "ask"
    """What becomes of snapshots that the job did not take and no rule names, and that would go: they
    stay until somebody confirms it, stay for good, or go. A key of zrepl-trio."""

    @field_validator("keep")
    @classmethod
    def _no_replication_here(cls, rules: tuple[KeepRule, ...]) -> tuple[KeepRule, ...]:
        if any(isinstance(rule, KeepNotReplicated) for rule in rules):
            raise bad("a snap job replicates nothing, so it takes no not_replicated rule")
        return rules


class FloorPruning(Section):
    """What a client cannot have destroyed, whatever it asks for."""

    floor: _KeepRules
    """What any of these rules keeps stays."""

    @field_validator("floor")
    @classmethod
    def _own_knowledge(cls, rules: tuple[KeepRule, ...]) -> tuple[KeepRule, ...]:
        if any(isinstance(rule, KeepNotReplicated) for rule in rules):
            raise bad("this side does not know what is replicated, so it takes no not_replicated")
        return rules


def keeps_all(rules: Sequence[KeepRule]) -> bool:
    """Whether a rule keeps whatever there is, so that nobody needs to look."""
    return not rules or any(
        isinstance(rule, KeepRegex) and not rule.negate and rule.regex.finds_all for rule in rules
    )
