"""What loading a config has to tell without refusing it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One remark; `today` holds the same thing in today's form (YAML), if it was translated."""

    file: str
    line: int
    column: int
    key: str
    message: str
    today: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        key = f"{self.key}: " if self.key else ""
        today = "".join(f"\n    {line}" for line in self.today.splitlines())
        return f"{place}{key}{self.message}{today}"
