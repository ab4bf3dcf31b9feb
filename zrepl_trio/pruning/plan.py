"""What a job's pruning would do to one filesystem, and why. Pure; behaviour reference 1.14 and 6.4.

The keep rules decide, as in zrepl. What they let go stays all the same where its loss could not be made
good: what is held, the newest version that both sides have, and what the job did not make, until
somebody wants it gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field, replace
from datetime import UTC, tzinfo
from enum import Enum
from operator import attrgetter
from typing import overload

from zrepl_trio.config.keep import (
    Foreign,
    KeepCalendar,
    KeepGrid,
    KeepNotReplicated,
    KeepRule,
    keeps_all,
)
from zrepl_trio.pruning.rules import going, keepers, waits
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "Base",
    "Fate",
    "FilesystemPrune",
    "Judgement",
    "Judgements",
    "PruneSide",
    "PruningPolicy",
    "base_on_receiver",
    "base_on_sender",
    "judge",
    "may_go",
    "misleading",
    "rule_text",
]


_BY_CREATETXG = attrgetter("createtxg")

AHEAD_S = 24 * 3600.0
"""How far the clocks of two hosts may be apart before a snapshot counts as one of the future."""


class PruneSide(Enum):
    """Whose snapshots; zrepl's words."""

    SENDER = "sender"
    RECEIVER = "receiver"
    LOCAL = "local"


class Fate(Enum):
    """What becomes of a snapshot. All but KEPT were let go by the rules. Of what the job did not make, FOREIGN
    waits for somebody's word, and SPARED stays for good."""

    KEPT = "kept"
    GOES = "goes"
    HELD = "held"
    BASE = "base"
    FOREIGN = "foreign"
    SPARED = "spared"


@valueclass(frozen=True, slots=True)
class Judgement:
    """One snapshot's; `kept_by` are the rules that keep it, by their index."""

    snapshot: FilesystemVersion
    fate: Fate
    kept_by: tuple[int, ...] = ()
    replicated: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class PruningPolicy:
    """A job's rules for one side.

    `prefix` begins the names of the snapshots that the job takes, None where it takes none.
    `foreign` says what becomes of others, `local` is the zone that a calendar calls Local.
    """

    side: PruneSide
    rules: tuple[KeepRule, ...]
    prefix: str | None = None
    foreign: Foreign = "ask"
    local: tzinfo = UTC

    def confirmed(self) -> PruningPolicy:
        """The same, once somebody has said that foreign snapshots may go."""
        return replace(self, foreign="destroy") if self.foreign == "ask" else self

    @property
    def keeps_all(self) -> bool:
        """Whether it can never let one go."""
        return keeps_all(self.rules)


class Judgements(Sequence[Judgement]):
    """Those of all `snapshots` of a filesystem, in their order. `let_go` are those by which no rule keeps the
    snapshot: few, mostly, and all that pruning itself asks for. Which rules keep the others is made out when
    somebody looks."""

    __slots__ = ("_all", "_policy", "_replicated", "_snapshots", "let_go")

    def __init__(
        self,
        snapshots: Sequence[FilesystemVersion] = (),
        policy: PruningPolicy | None = None,
        *,
        replicated: int = 0,
        let_go: tuple[Judgement, ...] = (),
    ) -> None:
        self._snapshots = snapshots
        self._policy = policy
        self._replicated = replicated
        self.let_go = let_go
        self._all: list[Judgement] | None = None

    @overload
    def __getitem__(self, index: int) -> Judgement: ...

    @overload
    def __getitem__(self, index: slice) -> list[Judgement]: ...

    def __getitem__(self, index: int | slice) -> Judgement | list[Judgement]:
        return self._made_out()[index]

    def __len__(self) -> int:
        return len(self._snapshots)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Judgements) and self._made_out() == other._made_out()

    def __hash__(self) -> int:
        return hash(tuple(self._made_out()))

    def _made_out(self) -> list[Judgement]:
        if self._all is None:
            self._all = self._make_out()
        return self._all

    def _make_out(self) -> list[Judgement]:
        if self._policy is None:
            return []
        snapshots, policy = self._snapshots, self._policy
        waiting = range(self._replicated, len(snapshots))
        fates = {id(each.snapshot): each.fate for each in self.let_go}
        kept_by = keepers(snapshots, waiting, policy.rules, local=policy.local)
        return [
            Judgement(version, fates.get(id(version), Fate.KEPT), kept, index < self._replicated)
            for index, (version, kept) in enumerate(zip(snapshots, kept_by, strict=True))
        ]


@valueclass(frozen=True, slots=True, kw_only=True)
class FilesystemPrune:
    """One filesystem's pruning. `skipped` says why it is not looked at, `error` why it cannot be."""

    path: DatasetPath
    judgements: Judgements = field(default_factory=Judgements)
    skipped: str = ""
    error: str = ""

    @property
    def let_go(self) -> tuple[Judgement, ...]:
        """Those of the judgements by which no rule keeps the snapshot."""
        return self.judgements.let_go

    @property
    def going(self) -> list[FilesystemVersion]:
        """What is to be destroyed, oldest first."""
        return self.having(Fate.GOES)

    def having(self, fate: Fate) -> list[FilesystemVersion]:
        """The snapshots with that fate, which is not KEPT, oldest first."""
        return [each.snapshot for each in self.let_go if each.fate is fate]


@valueclass(frozen=True, slots=True)
class Base:
    """From what the next increment can start: the guid of the sender's `cursor` (None: it has none),
    and the snapshots, by guid, that this side has to keep for it. What is older than `reached`, a guid,
    is replicated: that is where the cursor is, unless the receiver has lost what was there."""

    cursor: int | None
    keep: frozenset[int]
    reached: int | None

    @classmethod
    def at(cls, cursor: int | None, keep: Collection[int | None] = ()) -> Base:
        """The receiver has what the cursor says."""
        return cls(cursor, frozenset(guid for guid in keep if guid is not None), cursor)


def base_on_sender(
    cursor: int | None,
    ours: Sequence[FilesystemVersion],
    theirs: Sequence[FilesystemVersion] | None,
) -> Base:
    """Both in order; `theirs` is None while the receiver cannot be asked. Of what the cursor marks, the bookmark is
    enough; another version that both have may have no bookmark but one that its owner takes away."""
    if theirs is None:
        return Base.at(cursor)
    common = _newest_common(ours, theirs)
    txgs = {version.guid: version.createtxg for version in ours}
    base = Base.at(cursor, () if common == cursor else (common,))
    if common is None:
        return replace(base, reached=None)
    if cursor in txgs and txgs[common] < txgs[cursor]:
        return replace(base, reached=common)
    return base


def base_on_receiver(
    cursor: int | None,
    ours: Sequence[FilesystemVersion],
    theirs: Sequence[FilesystemVersion] | None,
) -> Base:
    """The snapshot at the cursor, and the newest one that the sender still has a version of. Both in order."""
    return Base.at(cursor, (_newest_common(theirs or (), ours), cursor))


def _newest_common(
    sender: Sequence[FilesystemVersion], receiver: Sequence[FilesystemVersion]
) -> int | None:
    """The guid of the sender's newest version of which the receiver has the snapshot. Both are in order."""
    if sender and receiver:
        newest = receiver[-1]
        if newest.kind is VersionKind.SNAPSHOT and newest.guid == sender[-1].guid:
            return newest.guid  # nothing is newer, as mostly after a run
    there = {v.guid for v in receiver if v.kind is VersionKind.SNAPSHOT}
    common = [version for version in sender if version.guid in there]
    return max(common, key=_BY_CREATETXG).guid if common else None


def may_go(versions: Sequence[FilesystemVersion], policy: PruningPolicy) -> set[int]:
    """What could go, were all of it replicated: indexes into the snapshots among `versions`. If nothing, no cursor
    need be asked for."""
    snapshots = [version for version in versions if version.kind is VersionKind.SNAPSHOT]
    return going(snapshots, (), policy.rules, local=policy.local)


def judge(
    versions: Sequence[FilesystemVersion],
    policy: PruningPolicy,
    base: Base | None,
    at_most: set[int] | None = None,
) -> Judgements:
    """Each snapshot's fate, in the order of `versions`, which is by createtxg. Without a `base`
    (a snap job) nothing depends on replication. `at_most`: their `may_go`, where it is known."""
    snapshots = [version for version in versions if version.kind is VersionKind.SNAPSHOT]
    replicated = _replicated(snapshots, policy, base)
    left = may_go(snapshots, policy) if at_most is None else at_most
    left = (
        left - waits(snapshots, range(replicated, len(snapshots)), policy.rules) if left else left
    )
    let_go = [
        Judgement(snapshots[at], _fate(snapshots[at], policy, base), (), at < replicated)
        for at in sorted(left)
    ]
    return Judgements(snapshots, policy, replicated=replicated, let_go=tuple(let_go))


def _replicated(
    snapshots: Sequence[FilesystemVersion], policy: PruningPolicy, base: Base | None
) -> int:
    """How many of the oldest are replicated."""
    if base is None:
        return 0
    guids = [version.guid for version in snapshots]
    if base.reached not in guids:
        return 0
    at = guids.index(base.reached)
    lets_cursor_go = policy.side is PruneSide.SENDER and any(
        isinstance(rule, KeepNotReplicated) and not rule.keep_snapshot_at_cursor
        for rule in policy.rules
    )
    return at + 1 if lets_cursor_go else at


def _fate(version: FilesystemVersion, policy: PruningPolicy, base: Base | None) -> Fate:
    if version.userrefs:
        return Fate.HELD
    if base is not None and version.guid in base.keep:
        return Fate.BASE
    if policy.foreign != "destroy" and _is_foreign(version.name, policy):
        return Fate.SPARED if policy.foreign == "keep" else Fate.FOREIGN
    return Fate.GOES


def _is_foreign(name: str, policy: PruningPolicy) -> bool:
    """Whether the job did not take it, and no rule is about such names.

    A rule about all names is about those that the job takes; where it takes none itself, about
    whatever comes."""
    if policy.prefix is not None and name.startswith(policy.prefix):
        return False
    takes = policy.prefix is not None
    return not any(_names(rule, name, takes=takes) for rule in policy.rules)


def _names(rule: KeepRule, name: str, *, takes: bool) -> bool:
    if isinstance(rule, KeepNotReplicated):
        return False
    return rule.regex.search(name) and not (takes and rule.regex.means_none)


def misleading(
    versions: Sequence[FilesystemVersion], policy: PruningPolicy, now: float
) -> FilesystemVersion | None:
    """The snapshot from which a rule would count ages, or periods, although its time is yet to come, if
    there is one: by it, others are too old. `now` in seconds since the epoch."""
    limit = now + AHEAD_S
    ahead = [version for version in versions if version.creation > limit and version.is_snapshot]
    for version in ahead:
        if any(_counts_from(rule, version.name) for rule in policy.rules):
            return version
    return None


def _counts_from(rule: KeepRule, name: str) -> bool:
    match rule:
        case KeepGrid() | KeepCalendar():
            return rule.regex.search(name)
        case KeepNotReplicated():
            return rule.max_age is not None
        case _:
            return False


def rule_text(rule: KeepRule) -> str:
    """The rule in a few words, for a person."""
    words: list[str] = [rule.type]
    for name, value in rule.model_dump(exclude_defaults=True, exclude={"type"}).items():
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        words.append(shown if name in {"grid", "regex", "count"} else f"{name}: {shown}")
    return " ".join(words)
