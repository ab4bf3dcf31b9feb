"""What zrepl keeps in ZFS, as a list: which of a filesystem's holds and bookmarks are its own,
whose they are, and which of them nothing needs any more.

Types, texts and JSON are those of `zrepl zfs-abstraction` (behaviour of zrepl 0.7), since scripts
read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from zrepl_trio.endpoint.abstractions import (
    LEGACY_CURSOR,
    CursorKind,
    parse_cursor,
    parse_last_received_tag,
    parse_step_tag,
)
from zrepl_trio.endpoint.aside import copy_around
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import FilesystemVersion, Hold, date_of
from zrepl_trio.zfs.names import DatasetPath, InvalidName, check_component

__all__ = [
    "ALL_TYPES",
    "Abstraction",
    "AbstractionType",
    "Selection",
    "abstractions_on",
    "check_tells_staleness",
    "parse_filesystems",
    "parse_job",
    "parse_types",
    "stale",
]


class AbstractionType(Enum):
    """zrepl's five kinds of hold and bookmark; the value is the name users know it by."""

    LAST_RECEIVED = "last-received-hold"
    CURSOR_V1 = "replication-cursor-bookmark-v1"
    CURSOR = "replication-cursor-bookmark-v2"
    STEP = "step-hold"
    TENTATIVE = "tentative-replication-cursor-bookmark-v2"

    @property
    def is_hold(self) -> bool:
        """Whether it is a hold on a snapshot; else it is a bookmark."""
        return self in {AbstractionType.LAST_RECEIVED, AbstractionType.STEP}


ALL_TYPES = frozenset(AbstractionType)

_CURSOR_TYPES = {
    CursorKind.CURSOR: AbstractionType.CURSOR,
    CursorKind.TENTATIVE: AbstractionType.TENTATIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstraction:
    """One hold or bookmark: a bookmark is `version` itself, a hold is `tag` on `version`.

    `job` is None for zrepl's first cursor, whose name has none.
    """

    type: AbstractionType
    dataset: DatasetPath
    version: FilesystemVersion
    job: str | None
    tag: str = ""

    def __str__(self) -> str:
        on = self.version.full(self.dataset)
        return f'{self.type.value} "{self.tag}" on {on}' if self.tag else f"{self.type.value} {on}"

    def to_json(self) -> Mapping[str, object]:
        """zrepl's JSON object of it."""
        version = self.version
        return {
            "Type": self.type.value,
            "FS": self.dataset,
            "Name": version.name,
            "FullPath": version.full(self.dataset),
            "JobID": self.job,
            "CreateTXG": version.createtxg,
            "FilesystemVersion": {
                "Type": "snapshot" if version.is_snapshot else "bookmark",
                "Name": version.name,
                "Guid": version.guid,
                "CreateTXG": version.createtxg,
                "Creation": f"{date_of(version.creation).replace(tzinfo=None).isoformat()}Z",
                "UserRefs": {
                    "Value": version.userrefs or 0,
                    "Valid": version.userrefs is not None,
                },
            },
            "String": str(self),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which abstractions are meant. `filesystems` is one dataset, or a filter of all there are;
    `job` None is any job."""

    filesystems: DatasetPath | FilesystemFilter = field(
        default_factory=lambda: FilesystemFilter.of({"<": True})
    )
    job: str | None = None
    types: frozenset[AbstractionType] = ALL_TYPES

    @property
    def wants_holds(self) -> bool:
        """Whether any hold can be among them."""
        return any(each.is_hold for each in self.types)

    def admits(self, abstraction: Abstraction) -> bool:
        """Whether its type and its job are meant. The first cursor has no job and always
        passes, as in zrepl."""
        return abstraction.type in self.types and (
            self.job is None or abstraction.job in {None, self.job}
        )


def abstractions_on(
    dataset: DatasetPath, versions: Sequence[FilesystemVersion], holds: Iterable[Hold]
) -> list[Abstraction]:
    """All of one filesystem, in the order of `versions`.

    A cursor whose name tells another guid than its own is not zrepl's and left out.
    """
    tags: dict[str, list[str]] = {}
    for hold in holds:
        tags.setdefault(hold.snapshot, []).append(hold.tag)
    found: list[Abstraction] = []
    for version in versions:
        if version.is_snapshot:
            for tag in sorted(tags.get(version.name, ())):
                found += _hold(dataset, version, tag)
        else:
            found += _bookmark(dataset, version)
    return found


def _hold(dataset: DatasetPath, version: FilesystemVersion, tag: str) -> list[Abstraction]:
    for kind, parse in (
        (AbstractionType.STEP, parse_step_tag),
        (AbstractionType.LAST_RECEIVED, parse_last_received_tag),
    ):
        if (job := parse(tag)) is not None:
            return [Abstraction(type=kind, dataset=dataset, version=version, job=job, tag=tag)]
    return []


def _bookmark(dataset: DatasetPath, version: FilesystemVersion) -> list[Abstraction]:
    if version.name == LEGACY_CURSOR:
        kind, job = AbstractionType.CURSOR_V1, None
    elif (cursor := parse_cursor(version.name)) is not None and cursor.guid == version.guid:
        kind, job = _CURSOR_TYPES[cursor.kind], cursor.job
    else:
        return []
    return [Abstraction(type=kind, dataset=dataset, version=version, job=job)]


def stale(abstractions: Iterable[Abstraction]) -> list[Abstraction]:
    """Those that no replication can need any more, in the order given.

    `abstractions` are all cursors, step holds and last-received holds of the filesystems and jobs
    concerned (behaviour reference 3.5). Of a job on a filesystem, cursors and last-received
    holds are moved along, so all but the newest are stale. Step holds are stale up to the newest
    cursor; without a cursor, which is before the first replication has ended, all but the newest.
    So the snapshot that a running or an interrupted step goes to stays held, and the one it
    starts from has the cursor. Tentative cursors are the base of an unfinished step, and never stale.
    Of a copy that was set aside nothing is received any more: all its last-received holds are stale.
    """
    listed = list(abstractions)
    newest: dict[tuple[AbstractionType, DatasetPath, str | None], int] = {}
    for each in listed:
        key = (each.type, each.dataset, each.job)
        newest[key] = max(newest.get(key, 0), each.version.createtxg)

    def is_stale(each: Abstraction) -> bool:
        own = newest[each.type, each.dataset, each.job]
        txg = each.version.createtxg
        match each.type:
            case AbstractionType.CURSOR:
                return txg < own
            case AbstractionType.LAST_RECEIVED:
                return txg < own or copy_around(each.dataset) is not None
            case AbstractionType.STEP:
                cursor = newest.get((AbstractionType.CURSOR, each.dataset, each.job))
                return txg < own if cursor is None else txg <= cursor
            case AbstractionType.TENTATIVE | AbstractionType.CURSOR_V1:
                return False

    return [each for each in listed if is_stale(each)]


def check_tells_staleness(types: frozenset[AbstractionType]) -> None:
    """InvalidName unless those types together tell which of them are stale: step holds are
    measured by the cursor."""
    together = {AbstractionType.STEP, AbstractionType.CURSOR}
    if types & together and not together <= types:
        names = " and ".join(sorted(each.value for each in together))
        raise InvalidName(f"what is stale of {names} shows only together: name both, or neither")


def parse_types(text: str) -> frozenset[AbstractionType]:
    """A comma list of type names; InvalidName for an unknown one."""
    known = {each.value: each for each in AbstractionType}
    words = text.split(",")
    if unknown := [word for word in words if word not in known]:
        raise InvalidName(
            f"no type {', '.join(map(repr, unknown))} (there are: {', '.join(known)})"
        )
    return frozenset(known[word] for word in words)


def parse_filesystems(text: str) -> DatasetPath | FilesystemFilter:
    """One dataset's name, or a comma list of `PATTERN:ok` and `PATTERN:!`; InvalidName otherwise."""
    words = text.split(",")
    if len(words) == 1 and ":" not in text:
        return DatasetPath.parse(text)
    entries: list[tuple[str, bool]] = []
    for word in words:
        pattern, _, verdict = word.rpartition(":")
        if verdict.lower() not in {"ok", "!"}:
            raise InvalidName(f"{word!r} is neither PATTERN:ok nor PATTERN:!")
        entries.append((pattern, verdict != "!"))
    return FilesystemFilter.of(entries)


def parse_job(text: str) -> str:
    """A job's name; InvalidName when none can have it. The empty one would stand for all jobs in
    zrepl, which an unset variable of a script should not."""
    return check_component(text, "job name")
