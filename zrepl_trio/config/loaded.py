"""A checked config together with where each of its keys stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.model import Config
from zrepl_trio.config.nodes import Node, Place, key_path, walk
from zrepl_trio.config.notes import Note
from zrepl_trio.errors import Problem

__all__ = ["LoadedConfig"]


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A checked config, where it came from, and what loading it had to tell.

    `config.jobs` holds also the jobs of included files, after the file's own.
    """

    config: Config
    path: Path
    notes: tuple[Note, ...] = ()
    _nodes: dict[Loc, Node] = field(default_factory=dict, compare=False, repr=False)

    def locate(self, loc: Loc) -> tuple[str, Place]:
        """The printable path and the place of a key such as `("jobs", 0, "connect")`."""
        head = 2 if loc[:1] == ("jobs",) else 1
        root = self._nodes.get(loc[:head])
        if root is None:
            return key_path(loc), Place(str(self.path), 0, 0)
        found, place = walk(root, loc[head:])
        return key_path(loc[:head] + found), place

    def problem(self, loc: Loc, message: str, accepted: str = "") -> Problem:
        """A Problem with the key at `loc`."""
        key, place = self.locate(loc)
        return place.problem(key, message, accepted)

    def note(self, loc: Loc, message: str) -> Note:
        """A Note on the key at `loc`."""
        key, place = self.locate(loc)
        return Note(file=place.file, line=place.line, column=place.column, key=key, message=message)
