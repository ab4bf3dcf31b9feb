"""`recv.target`: which place below its root a receiver gives each dataset of the sender.

A map from a pattern of the sender's names (as in `filter`) to a path below the root: `P<: T` puts
`P/x` at `T/x`, a plain `P: T` puts `P` alone at `T`. The exact entry decides, then the longest
subtree. The other way round the entry with the longest target decides.

A name is accepted only if the way back from its place leads to it, and if every place above that is
one of its own ancestors'; a path on the way to an entry's target is kept free of strangers. So no two names share a place, none lies inside another's replica, and
parents before children on the sender's side is that on the receiver's too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from zrepl_trio.zfs.filter import check_pattern
from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = ["WHOLE", "BadTarget", "NoPlace", "TargetRules", "check_target"]

_ITSELF = "the place of {name} would be the root itself, which is not the sender's"


class NoPlace(ValueError):
    """The rules give the name no place; the message says why, and names what has it if any has."""


class BadTarget(InvalidName):
    """The entry of `pattern` does not go with the others."""

    def __init__(self, pattern: str, message: str) -> None:
        super().__init__(message)
        self.pattern = pattern


def check_target(text: str) -> str:
    """`text`, if it is a path below the root, or empty for the root; InvalidName otherwise."""
    return DatasetPath.parse(text) if text else ""


@dataclass(frozen=True, slots=True)
class TargetRules:
    """Checked entries in file order. Make them by `of`."""

    entries: tuple[tuple[str, str], ...]
    _exact: dict[str, str] = field(init=False, compare=False, repr=False)
    _subtree: dict[str, str] = field(init=False, compare=False, repr=False)
    _exact_at: dict[str, str] = field(init=False, compare=False, repr=False)
    _subtree_at: dict[str, str] = field(init=False, compare=False, repr=False)
    _on_the_way: dict[str, list[str]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        exact = {p: target for p, target in self.entries if not p.endswith("<")}
        subtree = {p[:-1]: target for p, target in self.entries if p.endswith("<")}
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_subtree", subtree)
        object.__setattr__(self, "_exact_at", {target: name for name, target in exact.items()})
        object.__setattr__(self, "_subtree_at", {target: name for name, target in subtree.items()})
        on_the_way: dict[str, list[str]] = {}
        for pattern, target in self.entries:
            for above, _ in _splits(target.rpartition("/")[0]):
                on_the_way.setdefault(above, []).append(pattern)
        object.__setattr__(self, "_on_the_way", on_the_way)

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Self:
        """Rules of `entries`; InvalidName for an illegal one, BadTarget for one that has the place
        of another or lies inside it."""
        for pattern, target in entries.items():
            check_pattern(pattern)
            check_target(target)
        rules = cls(tuple(entries.items()))
        rules._check_apart()
        return rules

    def place(self, wire: DatasetPath) -> DatasetPath:
        """Where `wire` lands, as a path below the root; raises NoPlace."""
        if self.entries == _KEPT:
            return wire
        there = self._forward(wire)
        if there is None:
            raise NoPlace("no entry of `recv.target` matches it")
        if not there:
            raise NoPlace(
                f"{_ITSELF.format(name=wire)}: give it an entry of its own in `recv.target`, or "
                "leave it out on the sender"
            )
        path = DatasetPath.parse(there)
        if stranger := self._stranger(wire, path):
            raise NoPlace(f"{path} is on the way to the target of {stranger!r} in `recv.target`")
        owner = self._back(path)
        if owner != wire:
            raise NoPlace(f"{path} is the place of the sender's {owner} by `recv.target`")
        for above in path.ancestors():
            owner = self._back(above)
            if owner is not None and not wire.is_below(owner):
                raise NoPlace(
                    f"{path} lies inside the place of the sender's {owner} by `recv.target`"
                )
        return path

    def wire(self, place: DatasetPath) -> DatasetPath | None:
        """The name whose place that is, None when no name's is: the inverse of `place`."""
        if self.entries == _KEPT:
            return place
        wire = self._back(place)
        if wire is None:
            return None
        try:
            path = DatasetPath.parse(wire)
            self.place(path)
        except (InvalidName, NoPlace):
            return None
        return path

    def without_place(self) -> list[DatasetPath]:
        """Names that have no place while names below them have one, parents first."""
        sources = [DatasetPath(name) for name in (*self._exact, *self._subtree) if name]
        names = {above for source in sources for above in (*source.ancestors(), source)}
        return [name for name in sorted(names) if not self._has_place(name)]

    def _has_place(self, wire: DatasetPath) -> bool:
        try:
            self.place(wire)
        except NoPlace:
            return False
        return True

    def _forward(self, wire: str) -> str | None:
        """Where the entries put it, "" for the root, None for nowhere."""
        if wire in self._exact:
            return self._exact[wire]
        for head, tail in _splits(wire):
            if head in self._subtree:
                return _joined(self._subtree[head], tail)
        return None

    def _back(self, place: str) -> str | None:
        """The one name that place is kept for, if the entries put any there."""
        if place in self._exact_at:
            return self._exact_at[place]
        for head, tail in _splits(place):
            if head in self._subtree_at:
                wire = _joined(self._subtree_at[head], tail)
                if wire and self._forward(wire) == place and not self._stranger(wire, place):
                    return wire
        return None

    def _stranger(self, wire: str, place: str) -> str | None:
        """An entry for names not below `wire` whose target is below `place`."""
        below = f"{wire}/"
        patterns = self._on_the_way.get(place, ())
        return next((each for each in patterns if not each.startswith(below)), None)

    def _check_apart(self) -> None:
        seen: dict[str, str] = {}
        for pattern, target in self.entries:
            source = pattern.removesuffix("<")
            if not target and pattern == source:
                raise BadTarget(pattern, _ITSELF.format(name=source))
            other = seen.setdefault(target, pattern)
            # an exact entry beside the subtree of the same name only repeats it
            if other != pattern and other.removesuffix("<") != source:
                raise BadTarget(pattern, f"{target or 'the root'} is the target of {other!r} too")
            for above, _ in _splits(target.rpartition("/")[0]):
                owner = self._exact_at.get(above, self._subtree_at.get(above))
                if above and owner and not source.startswith(f"{owner}/"):
                    raise BadTarget(pattern, f"{target} lies inside {above}, the target of {owner}")


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """`path` cut in two at each place, the longest head first: (a/b, ""), (a, b), ("", a/b)."""
    head = path
    while head:
        yield head, path[len(head) + 1 :]
        head = head.rpartition("/")[0]
    yield "", path


def _joined(head: str, tail: str) -> str:
    return "/".join(part for part in (head, tail) if part)


_KEPT = (("<", ""),)

WHOLE = TargetRules.of(dict(_KEPT))
"""zrepl's rule: names are kept whole, right below the root."""
