"""The end of a data connection, as zrepl does it, and what all the ends add up to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

import trio

from zrepl_trio.transport.base import Connection

__all__ = ["CLOSE_LIMIT_S", "SHUTDOWN_LIMIT_S", "ShutdownTotals", "Step", "Summary", "shut_down"]

SHUTDOWN_LIMIT_S = 10.0
"""One absolute limit for all that comes before the close, as zrepl has it."""

CLOSE_LIMIT_S = 5.0
_DISCARD_BYTES = 256 * 1024
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Step(Enum):
    """What a shutdown does one after the other; the values are zrepl's, but for the drain's."""

    RESET = "write_frame"
    HALF_CLOSE = "close_write"
    DRAIN = "drain"
    CLOSE = "close"


@dataclass(slots=True)
class Summary:
    """How many there were, and what they come to together."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        self.total += value


def _none_of(*steps: Step) -> dict[Step, int]:
    return dict.fromkeys(steps, 0)


@dataclass(slots=True)
class ShutdownTotals:
    """What the shutdowns of many connections add up to.

    A hard close is one before the peer has left: by the step that failed or took too long. The
    drain's seconds go on to the end of the close, as zrepl's do.
    """

    seconds: Summary = field(default_factory=Summary)
    drain_seconds: Summary = field(default_factory=Summary)
    drain_bytes: Summary = field(default_factory=Summary)
    hard_closes: dict[Step, int] = field(
        default_factory=lambda: _none_of(Step.RESET, Step.HALF_CLOSE, Step.DRAIN)
    )
    close_errors: dict[Step, int] = field(default_factory=lambda: _none_of(Step.CLOSE))


async def shut_down(connection: Connection, reset: bytes | None, totals: ShutdownTotals) -> None:
    """Send the frame `reset`, half-close, discard up to EOF, all within SHUTDOWN_LIMIT_S; close.

    Without `reset` nothing may be said any more. Goes on when it is cancelled.
    """
    since_s = trio.current_time()
    drain_since_s: float | None = None
    drained = 0
    step = Step.RESET
    try:
        with trio.move_on_after(SHUTDOWN_LIMIT_S, shield=True), suppress(*_GONE):
            if reset is not None:
                await connection.send_all(reset)
                step = Step.HALF_CLOSE
                await connection.send_eof()
                step = Step.DRAIN
                drain_since_s = trio.current_time()
                # a link that breaks now has brought all that there was
                with suppress(*_GONE):
                    while data := await connection.receive_some(_DISCARD_BYTES):
                        drained += len(data)
                step = Step.CLOSE
        if step is not Step.CLOSE:
            totals.hard_closes[step] += 1
        await _close(connection, totals)
    finally:
        now_s = trio.current_time()
        totals.seconds.add(now_s - since_s)
        if drain_since_s is not None:
            totals.drain_seconds.add(now_s - drain_since_s)
            totals.drain_bytes.add(drained)


async def _close(connection: Connection, totals: ShutdownTotals) -> None:
    closed = False
    try:
        with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
            await connection.aclose()
            closed = True
    finally:
        if not closed:
            totals.close_errors[Step.CLOSE] += 1
