"""When a data connection must say that it lives, and when its peer counts as dead.

Pure: times are seconds of any steady clock, given by the caller; nothing here sleeps.
"""

from __future__ import annotations

__all__ = ["INTERVAL_S", "PEER_LIMIT_S", "HeartbeatTimer", "WriteLimit"]

INTERVAL_S = 5.0
"""A side that sent no frame for this long sends a heartbeat (zrepl compiles it in)."""

PEER_LIMIT_S = 10.0
"""A pending read without a byte, or a write without progress, fails after this long."""


class HeartbeatTimer:
    """Tells when the next heartbeat is due; every frame that leaves puts it off."""

    def __init__(self, now: float) -> None:
        self._last_frame = now

    def frame_sent(self, now: float) -> None:
        """A frame has left."""
        self._last_frame = now

    def next_deadline(self, now: float) -> float:
        """When to ask `on_time` again, never before `now`."""
        return max(self._last_frame + INTERVAL_S, now)

    def on_time(self, now: float) -> bool:
        """Whether a heartbeat is due."""
        return now >= self._last_frame + INTERVAL_S


class WriteLimit:
    """Tells how long a pending write may still wait.

    Progress puts the end off, and so does a heartbeat of the peer: that is what lets a receiver
    hold back a stream for minutes while its disk is busy.
    """

    def __init__(self, now: float) -> None:
        self.deadline = now + PEER_LIMIT_S

    def progress(self, now: float) -> None:
        """Bytes were taken."""
        self.deadline = now + PEER_LIMIT_S

    def peer_heartbeat(self, now: float) -> None:
        """The peer lives."""
        self.deadline = now + PEER_LIMIT_S
