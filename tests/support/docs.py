"""The documentation's fenced blocks, for the tests that do what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "block", "blocks"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`name` is that of the marker in the line before it, if any; `line` is the fence's."""

    name: str | None
    language: str
    text: str
    line: int


def blocks(path: str) -> list[Block]:
    """All fenced blocks of a document, by its path in the checkout."""
    found = []
    lines = (ROOT / path).read_text().splitlines(keepends=True)
    opened: int | None = None
    for index, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if opened is None:
            opened = index
            continue
        marker = re.fullmatch(r"<!-- test: ([\w-]+) -->\s*", lines[opened - 1])
        found.append(
            Block(
                name=marker[1] if marker else None,
                language=lines[opened].strip("` \n"),
                text="".join(lines[opened + 1 : index]),
                line=opened + 1,
            )
        )
        opened = None
    assert opened is None, f"{path}:{(opened or 0) + 1}: this block does not end"
    return found


def block(name: str, path: str = "README.md") -> str:
    """The text of the block with that marker."""
    (found,) = (each for each in blocks(path) if each.name == name)
    return found.text
