"""What of a program's output goes into the log, and in which pieces. Pure.

Each entry costs more than its text, so there is a limit of entries beside the one of bytes: a program that
prints empty lines would else fill the log, and take the daemon's time, with next to no bytes.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator

__all__ = ["MOST_OF_LINE", "HookOutput", "last_lines", "most_lines"]

MOST_OF_LINE = 4096
"""Characters of an entry; a longer line is cut into several."""

_FEWEST_LINES = 1000
_MIB = 1 << 20


def most_lines(most_bytes: int) -> int:
    """How many entries go with that limit of bytes."""
    return max(_FEWEST_LINES, _FEWEST_LINES * most_bytes // _MIB)


class HookOutput:
    """Takes the output as it comes by `add`, and gives it line by line by `next`; by `end` the line that
    has no end. What is beyond `most_bytes` or `most_lines` is dropped, and then `dropped` is true."""

    def __init__(self, *, most_bytes: int, most_lines: int) -> None:
        self._bytes_left = most_bytes
        self._lines_left = most_lines
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ready: deque[str] = deque()
        self._line = ""
        self.dropped = False

    def add(self, chunk: bytes) -> None:
        """The next of its bytes, however they are cut."""
        if self.dropped:
            return
        text = self._decoder.decode(chunk[: self._bytes_left])
        cut = len(chunk) > self._bytes_left
        self._bytes_left -= len(chunk)
        # no more than may be said is taken apart
        *lines, self._line = (self._line + text).split("\n", self._lines_left + 1)
        for line in lines:
            self._say(line)
        *begun, self._line = _pieces(self._line)
        for piece in begun:
            self._say(piece)
        if cut and not self.dropped:
            self._end_line()
            self.dropped = True

    def next(self) -> str | None:
        """A line that was not given yet, if one is ready."""
        return self._ready.popleft() if self._ready else None

    def end(self) -> Iterator[str]:
        """All that was not given yet; nothing is added after that."""
        if not self.dropped:
            self._end_line()
        yield from self._ready
        self._ready.clear()

    def _end_line(self) -> None:
        self._line += self._decoder.decode(b"", final=True)
        if self._line:
            self._say(self._line)
        self._line = ""

    def _say(self, line: str) -> None:
        for piece in _pieces(line):
            if self._lines_left <= 0:
                self.dropped = True
                return
            self._lines_left -= 1
            self._ready.append(piece)


def last_lines(text: str) -> list[str]:
    """The last lines of `text`, as many as are logged at most."""
    pieces = [piece for line in text.splitlines() for piece in _pieces(line)]
    return pieces[-_FEWEST_LINES:]


def _pieces(line: str) -> list[str]:
    """One at least; the last is empty only where the line is."""
    return [line[at : at + MOST_OF_LINE] for at in range(0, len(line), MOST_OF_LINE)] or [""]
