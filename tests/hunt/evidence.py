"""What a judge goes by: snapshots as they were taken, and what a dataset has now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.hunt.rules import Listed
from zrepl_trio.emulate.objects import Bookmark, Dataset, Snapshot
from zrepl_trio.endpoint.abstractions import Cursor, parse_cursor

__all__ = ["Broken", "Taken", "listed_in", "mark_of", "versions_of"]


class Broken(Exception):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot as it was taken, of which filesystem of which host, and when, in seconds from the start;
    `by_job`: not by hand."""

    host: str
    name: str
    content: Mapping[str, bytes]
    at: float
    by_job: bool


def versions_of(dataset: Dataset) -> list[Snapshot | Bookmark]:
    """Its snapshots and bookmarks."""
    return [*dataset.snapshots.values(), *dataset.bookmarks.values()]


def listed_in(dataset: Dataset) -> list[Listed]:
    """Its snapshots, oldest first."""
    return [
        Listed(each.guid, each.name, each.creation, each.createtxg)
        for each in dataset.snapshots.values()
    ]


def mark_of(name: str, job: str) -> Cursor | None:
    """The job's cursor, of either kind, with that bookmark's name; None for other bookmarks."""
    mark = parse_cursor(name)
    return mark if mark is not None and mark.job == job else None
