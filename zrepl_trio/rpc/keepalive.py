"""When a control connection asks its silent peer for a sign of life, and when it gives up.

Pure: times are seconds of any steady clock, given by the caller; nothing here sleeps.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["CLIENT_IDLE_S", "SERVER_IDLE_S", "TIMEOUT_S", "Action", "Keepalive"]

CLIENT_IDLE_S = 10.0
"""zrepl asks for 5 s, grpc-go raises it to 10 s."""

SERVER_IDLE_S = 5.0
TIMEOUT_S = 10.0
"""How long after the ping the peer may stay silent."""


class Action(Enum):
    """What to do now."""

    NOTHING = "nothing"
    PING = "ping"
    GIVE_UP = "give up"


class Keepalive:
    """Counts from the last bytes that came in, whatever they were."""

    def __init__(self, now: float, idle_s: float) -> None:
        self._idle_s = idle_s
        self._heard = now
        self._pinged: float | None = None

    def heard(self, now: float) -> None:
        """Bytes came in."""
        self._heard = now
        self._pinged = None

    def next_deadline(self, now: float) -> float:
        """When to ask `on_time` again, never before `now`."""
        if self._pinged is not None:
            return max(self._pinged + TIMEOUT_S, now)
        return max(self._heard + self._idle_s, now)

    def on_time(self, now: float) -> Action:
        """What is due; PING is given once, and the caller then sends it."""
        if self._pinged is not None:
            return Action.GIVE_UP if now >= self._pinged + TIMEOUT_S else Action.NOTHING
        if now < self._heard + self._idle_s:
            return Action.NOTHING
        self._pinged = now
        return Action.PING
