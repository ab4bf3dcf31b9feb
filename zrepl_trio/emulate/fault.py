"""What an emulated command refuses, in zfs's own words."""

from __future__ import annotations

__all__ = ["Fault"]


class Fault(Exception):
    """`text` goes to stderr (a newline is added), `status` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
