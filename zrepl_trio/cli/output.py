"""Standard output that can fail: a reader that has gone away, a full disk."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zrepl_trio.errors import ZreplError

__all__ = ["OutputFailed", "watched_output"]


class OutputFailed(ZreplError):
    """Standard output takes no more; `errno` says why. Unlike an OSError it cannot be another's."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"cannot write to standard output: {cause.strerror}")
        self.errno = cause.errno


class _Output(io.FileIO):
    """Once a write has failed and was told, the rest goes nowhere: nobody can be told again."""

    _failed = False

    def write(self, data: object, /) -> int:
        if self._failed:
            return memoryview(data).nbytes  # type: ignore[arg-type]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self._failed = True
            raise OutputFailed(error) from None


@contextmanager
def watched_output() -> Iterator[None]:
    """While the block runs, and when it ends, what cannot be written to stdout ends the program
    with status 1 and one line; without a line when a pipe's reader has gone, which is its right."""
    if sys.stdout is None:
        yield
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(sys.stdout.fileno(), "wb", closefd=False)),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=bool(sys.stdout.line_buffering),
    )
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputFailed as failure:
        if failure.errno != errno.EPIPE:
            print(f"zrepl-trio: {failure}", file=sys.stderr)
        sys.exit(1)
