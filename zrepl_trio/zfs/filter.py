"""The `filesystems` filter: which datasets a job means.

A map from pattern to yes or no. A pattern is a dataset path, or one with `<` behind it for the
whole subtree; `<` alone is everything. An exact entry decides first and says nothing about its
children; then the longest matching subtree; what nothing matches is out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = ["Extent", "FilesystemFilter", "check_pattern"]

_FORBIDDEN = "@#|\t<>*"


def check_pattern(pattern: str) -> str:
    """`pattern`, if it is a legal filter pattern; InvalidName otherwise."""
    path = pattern.removesuffix("<")
    if "<" in path:
        raise InvalidName(f"pattern {pattern!r}: `<` stands only at the end")
    if not path:
        if not pattern:
            raise InvalidName("the pattern is empty (`<` alone means all filesystems)")
        return pattern
    for char in path:
        if char in _FORBIDDEN:
            raise InvalidName(f"pattern {pattern!r} holds {char!r}")
    if path.endswith("/"):
        raise InvalidName(f"pattern {pattern!r} ends with `/` (write {path.rstrip('/') + '<'!r})")
    try:
        DatasetPath.parse(path)
    except InvalidName as error:
        raise InvalidName(f"pattern {pattern!r}: {error}") from None
    return pattern


@dataclass(frozen=True, slots=True)
class Extent:
    """Where to look for what a filter can admit: subtrees of which none lies in another, and
    datasets beside them whose children are of no interest. `everything`: all pools, instead."""

    subtrees: tuple[DatasetPath, ...] = ()
    alone: tuple[DatasetPath, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class FilesystemFilter:
    """Entries in file order, each a checked pattern and its verdict."""

    entries: tuple[tuple[str, bool], ...]
    _verdicts: dict[str, bool] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_verdicts", dict(self.entries))

    @classmethod
    def of(cls, entries: Mapping[str, bool] | Iterable[tuple[str, bool]]) -> Self:
        """A filter of `entries`; InvalidName for an illegal or repeated pattern."""
        pairs = tuple(entries.items()) if isinstance(entries, Mapping) else tuple(entries)
        seen: set[str] = set()
        for pattern, _ in pairs:
            check_pattern(pattern)
            if pattern in seen:
                raise InvalidName(f"pattern {pattern!r} stands twice")
            seen.add(pattern)
        return cls(pairs)

    def admits(self, path: str) -> bool:
        """Whether the filter lets `path` (filesystem or volume) in."""
        verdicts = self._verdicts
        if path in verdicts:
            return verdicts[path]
        for subtree in _subtrees(path):
            if subtree in verdicts:
                return verdicts[subtree]
        return False

    def select(self, paths: Iterable[str]) -> Iterator[str]:
        """Those of `paths` that the filter admits, in their order."""
        return (path for path in paths if self.admits(path))

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """The datasets that entries name, by themselves or as a subtree, and that are not in `paths`."""
        named = dict.fromkeys(pattern.removesuffix("<") for pattern, _ in self.entries)
        for path in ("", *paths):
            named.pop(path, None)
        return list(named)

    def shared_with(self, other: FilesystemFilter) -> str | None:
        """A pattern of either under which both let something in, None when there is no such thing."""
        for pattern, _ in (*self.entries, *other.entries):
            path = pattern.removesuffix("<")
            # the verdicts on the path itself, and on what below it no other pattern names
            probes = {path: path}
            if pattern != path:
                probes[f"{path}/\0".lstrip("/")] = pattern
            for probe, found in probes.items():
                if probe and self.admits(probe) and other.admits(probe):
                    return found
        return None

    @property
    def roots(self) -> list[DatasetPath]:
        """The topmost subtrees that an entry lets in; none where all of them are meant."""
        named = [pattern[:-1] for pattern, yes in self.entries if yes and pattern.endswith("<")]
        return sorted(DatasetPath.parse(path) for path in named if path)

    @property
    def extent(self) -> Extent:
        """Where all lies that can pass, and all that an entry names: what `unmatched` asks for."""
        return _extent(self)

    @property
    def rejects_all(self) -> bool:
        """Whether nothing can ever pass."""
        return not any(verdict for _, verdict in self.entries)


@lru_cache(maxsize=64)  # asked for with each listing
def _extent(filesystems: FilesystemFilter) -> Extent:
    named = dict(filesystems.entries)
    if named.get("<"):
        return Extent(everything=True)
    subtrees: list[DatasetPath] = []
    for root in sorted(filesystems.roots, key=lambda root: root.components):
        if not subtrees or not root.is_at_or_below(subtrees[-1]):
            subtrees.append(root)
    alone = (
        DatasetPath.parse(name)
        for name in dict.fromkeys(p.removesuffix("<") for p in named)
        if name
    )
    return Extent(
        subtrees=tuple(subtrees),
        alone=tuple(path for path in alone if not any(map(path.is_at_or_below, subtrees))),
    )


def _subtrees(path: str) -> Iterator[str]:
    """The subtree patterns that cover `path`, longest first."""
    while path:
        yield path + "<"
        path = path.rpartition("/")[0]
    yield "<"
