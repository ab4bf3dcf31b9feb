"""Taking a command line apart as getopt(3) does, without the import time of Python's own."""

from __future__ import annotations

from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.usage import usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Options", "parse", "properties"]


class Options:
    """Flags that were given, values of those that take one (in order), and the other words."""

    __slots__ = ("flags", "values", "words")

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def last(self, flag: str) -> str | None:
        """The last value of a flag, None when it was not given."""
        return self.values[flag][-1] if flag in self.values else None


def parse(
    command: str,
    words: Sequence[str],
    *,
    flags: str,
    with_value: str = "",
    unsupported: str = "",
    error: Callable[[str, str], Fault] = usage_error,
) -> Options:
    """`flags` and `with_value` are the letters taken; `unsupported` those that real zfs takes and
    the emulation refuses by name."""
    found = Options()
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            raise Fault(f"the emulated zfs has no option '{word}' of '{command}'", 2)
        at = 1
        while at < len(word):
            letter = word[at]
            at += 1
            if letter in with_value:
                value = word[at:]
                if not value:
                    if not rest:
                        raise error(command, f"missing argument for '{letter}' option")
                    value = rest.pop(0)
                found.values.setdefault(letter, []).append(value)
                break
            if letter in unsupported:
                raise Fault(f"the emulated zfs has no option '-{letter}' of '{command}'", 2)
            if letter not in flags:
                raise error(command, f"invalid option '{letter}'")
            found.flags.add(letter)
    found.words = rest
    return found


def properties(command: str, assignments: Sequence[str], *, status: int = 1) -> dict[str, str]:
    """`name=value` words of `-o`."""
    found: dict[str, str] = {}
    for assignment in assignments:
        name, sep, value = assignment.partition("=")
        if not sep:
            raise usage_error(command, f"missing '=' for property=value argument '{assignment}'")
        if name in found:
            raise Fault(f"property '{name}' specified multiple times", status)
        found[name] = value
    return found
