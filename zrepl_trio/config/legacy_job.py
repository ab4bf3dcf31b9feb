"""What the translations of the 0.0.x job types share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from zrepl_trio.config.explain import MISSING, Loc
from zrepl_trio.config.legacy_prune import keep_rules
from zrepl_trio.config.nodes import Entry, MapNode, Node, Place, ScalarNode, SeqNode, key_path
from zrepl_trio.config.notes import Note
from zrepl_trio.config.render import as_yaml
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.errors import Problem

__all__ = ["RECV", "OldJob", "OldSingleJob", "Outcome", "built", "mapping_pairs"]

RECV = {"placeholder": {"encryption": "inherit"}}
"""How 0.0.x made placeholders. Today's default is to refuse where one is needed."""


@dataclass(slots=True)
class Outcome:
    """What translating had to tell."""

    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def remaining(self, loc: Loc, problems: list[Problem]) -> list[Problem]:
        """Those of today's `problems` with the job at `loc` that do not follow from ours."""
        head = f"{key_path(loc)}."
        ours = {problem.line for problem in self.problems if problem.key.startswith(head)}
        if not ours:
            return problems
        return [
            problem
            for problem in problems
            if problem.message != MISSING and problem.line not in ours
        ]

    def note(self, place: Place, loc: Loc, message: str, today: object = None) -> None:
        """Add a note; `today` (plain data or nodes) is shown as YAML."""
        self.notes.append(
            Note(
                file=place.file,
                line=place.line,
                column=place.column,
                key=key_path(loc),
                message=message,
                today=as_yaml(_plain(today)) if today is not None else "",
            )
        )


class OldJob(ABC):
    """One job on its way to today's form; `entries` is what has been reached."""

    def __init__(self, node: MapNode, loc: Loc, outcome: Outcome) -> None:
        self.node = node
        self.loc = loc
        self.outcome = outcome
        self.entries = dict(node.entries)
        self._refusals = 0

    @abstractmethod
    def today(self) -> list[Node]:
        """The job or jobs of today that stand for this one."""

    def take(self, key: str) -> Entry | None:
        """The entry of an old key, which goes."""
        return self.entries.pop(key, None)

    def note(self, entry: Entry, key: str, message: str, today: object = None) -> None:
        """A note on one of the job's keys."""
        self.outcome.note(entry.key_place, (*self.loc, *key.split(".")), message, today)

    def refuse(self, place: Place, key: str, message: str, accepted: str = "") -> None:
        """A problem with one of the job's keys."""
        self._refusals += 1
        loc = (*self.loc, *key.split("."))
        self.outcome.problems.append(place.problem(key_path(loc), message, accepted))

    def was_refused(self) -> bool:
        """Whether a problem was found so far."""
        return self._refusals > 0

    def put(self, key: str, place: Place, value: object) -> bool:
        """Set a key of today's form, unless the job has it already, which is a contradiction."""
        if key in self.entries:
            there = self.entries[key].key_place
            self.refuse(there, key, "stands beside its form of 0.0.x; keep one of the two")
            return False
        self.entries[key] = Entry(place, built(place, value))
        return True

    def text(self, entry: Entry | None, key: str) -> str | None:
        """The text of an old key that must have one."""
        if entry is None:
            return None
        if isinstance(entry.value, ScalarNode) and entry.value.text:
            return entry.value.text
        self.refuse(entry.key_place, key, "must be a text that is not empty")
        return None

    def debug(self) -> None:
        """`debug` has no counterpart."""
        entry = self.take("debug")
        if entry is not None:
            self.note(entry, "debug", "of 0.0.x, has no counterpart and no effect; remove it")

    def snapshotting(self) -> str | None:
        """`snapshot_prefix` and `interval` as periodic snapshotting; gives the prefix."""
        prefix, interval = self.take("snapshot_prefix"), self.take("interval")
        text = self.text(prefix, "snapshot_prefix")
        if prefix is None or interval is None:
            lone = prefix or interval
            if lone is not None:
                missing = "interval" if prefix is not None else "snapshot_prefix"
                self.refuse(lone.key_place, missing, "required, and missing (a form of 0.0.x)")
            return text
        today = {"type": "periodic", "prefix": prefix.value, "interval": interval.value}
        if self.put("snapshotting", prefix.key_place, today):
            message = "with `interval`, of 0.0.x; today:"
            self.note(prefix, "snapshot_prefix", message, {"snapshotting": today})
        return text

    def initial_replication(self) -> None:
        """`initial_repl_policy` is `conflict_resolution.initial_replication` today."""
        entry = self.take("initial_repl_policy")
        if entry is None or (isinstance(entry.value, ScalarNode) and not entry.value.text):
            return
        key = "initial_repl_policy"
        text = self.text(entry, key)
        if text not in {"most_recent", "all"}:
            if text is not None:
                self.refuse(entry.value.place, key, f"{text!r} is not known", "most_recent, all")
            return
        today = {"initial_replication": text}
        if self.put("conflict_resolution", entry.key_place, today):
            self.note(entry, key, "of 0.0.x; today:", {"conflict_resolution": today})

    def rules(
        self, entry: Entry, key: str, prefix: str | None, *, bookmarks: bool
    ) -> list[dict[str, object]] | None:
        """Today's keep rules for an old policy, None if it was refused."""
        if prefix is None and self.was_refused():
            return None  # the prefix is what was refused
        if not isinstance(entry.value, MapNode):
            self.refuse(entry.key_place, key, "must be a mapping", "policy: grid, policy: noprune")
            return None
        try:
            rules, remarks = keep_rules(entry.value, prefix, bookmarks=bookmarks)
        except ScalarError as error:
            self.refuse(entry.value.place, key, error.message, error.accepted)
            return None
        for remark in remarks:
            self.note(entry, key, remark)
        return rules


class OldSingleJob(OldJob):
    """An old job that one of today's stands for."""

    def today(self) -> list[Node]:
        self.translate()
        return [MapNode(self.node.place, self.entries)]

    @abstractmethod
    def translate(self) -> None:
        """Bring `entries` to today's form."""


def mapping_pairs(node: Node) -> list[tuple[str, str]] | None:
    """Pattern and target of each entry of a mapping; None if it is something else."""
    if not isinstance(node, MapNode):
        return None
    pairs = []
    for pattern, entry in node.entries.items():
        if not isinstance(entry.value, ScalarNode):
            return None
        pairs.append((pattern, "" if entry.value.is_null else entry.value.text))
    return pairs


def built(place: Place, value: object) -> Node:
    """Plain data as nodes that all stand at `place`; nodes in it stay what they are."""
    match value:
        case ScalarNode() | SeqNode() | MapNode():
            return value
        case bool():
            return ScalarNode(place, "true" if value else "false", plain=True)
        case int():
            return ScalarNode(place, str(value), plain=True)
        case dict():
            return MapNode(
                place, {str(key): Entry(place, built(place, item)) for key, item in value.items()}
            )
        case list() | tuple():
            return SeqNode(place, tuple(built(place, item) for item in value))
        case _:
            return ScalarNode(place, str(value))


def _plain(value: object) -> object:
    """The reverse of `built`, to be shown."""
    match value:
        case ScalarNode(plain=True, text="true" | "false"):
            return value.text == "true"
        case ScalarNode():
            return value.text
        case SeqNode():
            return [_plain(item) for item in value.items]
        case MapNode():
            return {key: _plain(entry.value) for key, entry in value.entries.items()}
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
