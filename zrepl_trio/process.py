"""Child processes: one contract for whoever needs one; see `zrepl_trio.children` for the real one.

Job code gets a `Processes` as an argument and starts nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import trio

__all__ = ["Child", "Completed", "Processes", "Redirect", "StuckChild", "Usage"]


class Redirect(Enum):
    """Where a child's stdin or stdout goes."""

    NULL = "null"
    PIPE = "pipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds of an ended child, and of those of its own children that it waited for."""

    user_s: float
    system_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """An ended child; `status` is its exit status, negative for the signal that killed it.
    `usage` is None where it cannot be known."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckChild:
    """A child that ignores SIGKILL (in the kernel, say); `dataset` is what it blocks."""

    pid: int
    argv: tuple[str, ...]
    dataset: str


class Child(Protocol):
    """A running child; belongs to the `async with` that opened it."""

    @property
    def pid(self) -> int: ...

    @property
    def stdin(self) -> trio.abc.SendStream:
        """The write end of its stdin, non-blocking, with `fileno()`; only with Redirect.PIPE."""

    @property
    def stdout(self) -> trio.abc.ReceiveStream:
        """The read end of its stdout, non-blocking, with `fileno()`; only with Redirect.PIPE."""

    @property
    def stderr_tail(self) -> bytes:
        """The last 32 KiB of what it said so far."""

    @property
    def usage(self) -> Usage | None:
        """The time it took, once it has ended; None before, and where it cannot be known."""

    async def wait(self) -> int:
        """Its exit status, negative for a signal; stderr has been read to its end by then,
        unless a grandchild keeps it open."""


class Processes(Protocol):
    """Starts children, ends them with grace, and keeps watch over those that won't end."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        stdin: bytes = b"",
    ) -> Completed:
        """Run to the end, output captured. FileNotFoundError/PermissionError when it can't start.
        On cancel the child is ended before this returns."""

    def open(
        self,
        argv: Sequence[str],
        *,
        stdin: Redirect = Redirect.NULL,
        stdout: Redirect = Redirect.NULL,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        grace_s: float = 1.0,
        kill_s: float = 5.0,
        pipe_size: int | None = None,
    ) -> AbstractAsyncContextManager[Child]:
        """A running child. Leaving the block closes our pipe ends, waits `grace_s`, sends SIGTERM,
        waits `grace_s`, sends SIGKILL, waits `kill_s`; then it is left to the reaper, which
        lists it as stuck. `env` None: ours with LC_ALL=C; else exactly that. `pipe_size` asks
        for larger pipes (F_SETPIPE_SZ) and may be refused."""

    @property
    def stuck(self) -> tuple[StuckChild, ...]:
        """Children that ignored SIGKILL and still run."""
