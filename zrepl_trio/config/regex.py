"""Regexes of keep rules: RE2, as in zrepl, since Python's `re` differs where it hurts.

`\\z` is unknown to `re`, `$` matches before a newline there, look-ahead is unknown to RE2; and RE2
runs in linear time, so no pattern can stall the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, Self

import re2

from zrepl_trio.config.scalars import ScalarError

__all__ = ["REGEX_WORDS", "Regex"]

REGEX_WORDS = "RE2 syntax: no look-around, no back-references"

_PLAIN = re.compile(r"(?P<start>\^?)(?P<text>[A-Za-z0-9_:-]*)")
"""Patterns that stand for themselves, as most in configs do: to look for a text takes a twentieth of the time
that RE2 takes, and a listing may have a million names."""

_FINDS_ALL = frozenset({"", ".*", "^", "$", "^.*", ".*$", "^.*$", ".", ".+", "^.+$"})

_OTHERS = (*"0aZ-_.: ", "a long-0.Z:_ one")
"""Names that have nothing in common but what every name has."""


class _Compiled(Protocol):
    def search(self, text: str, /) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Regex:
    """A compiled pattern, equal to another by its text."""

    pattern: str
    _finds: Callable[[str], bool] = field(compare=False, repr=False)
    _finds_in: Callable[[Sequence[str]], list[bool]] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, pattern: str) -> Self:
        """The compiled pattern; ScalarError carries RE2's own words."""
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True  # only asked whether there is a match
        try:
            compiled: _Compiled = re2.compile(pattern, options)
        except re2.error as error:
            text = error.args[0] if error.args else error
            words = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            raise ScalarError(f"{pattern!r} is not a regex: {words}", REGEX_WORDS) from None
        plain = _PLAIN.fullmatch(pattern)
        if plain is None:
            return cls(
                pattern,
                lambda name: compiled.search(name) is not None,
                lambda names: [compiled.search(name) is not None for name in names],
            )
        text = plain["text"]
        if plain["start"]:
            return cls(
                pattern,
                lambda name: name.startswith(text),
                lambda names: [name.startswith(text) for name in names],
            )
        return cls(
            pattern, lambda name: text in name, lambda names: [text in name for name in names]
        )

    @staticmethod
    def escape(text: str) -> str:
        """`text` as a pattern that matches it alone."""
        return str(re2.escape(text))

    def search(self, name: str) -> bool:
        """Whether the pattern is found anywhere in `name` (snapshot name without dataset and @)."""
        return self._finds(name)

    def search_all(self, names: Sequence[str]) -> list[bool]:
        """`search` for each of them."""
        return self._finds_in(names)

    @property
    def finds_all(self) -> bool:
        """Whether it is one of the usual ways to write a pattern that every name has."""
        return self.pattern in _FINDS_ALL

    @property
    def means_none(self) -> bool:
        """Whether it is found in names of any kind, however it is written, so that it is about none of
        them in particular."""
        return _means_none(self)

    def __str__(self) -> str:
        return self.pattern


@lru_cache(maxsize=256)  # asked for each snapshot that a rule lets go
def _means_none(regex: Regex) -> bool:
    return all(regex.search(name) for name in _OTHERS)
