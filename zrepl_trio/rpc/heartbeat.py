"""When a data connection must say that it lives, and when its peer counts as dead.

Pure: times are seconds of any steady clock, given by the caller; nothing here sleeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zrepl_trio.errors import PeerStuck

__all__ = [
    "INTERVAL_S",
    "PEER_LIMIT_S",
    "WORK_LIMIT_S",
    "HeartbeatTimer",
    "WorkLimit",
    "WriteLimit",
    "work_limit",
]

INTERVAL_S = 5.0
"""A side that sent no frame for this long sends a heartbeat (zrepl compiles it in)."""

PEER_LIMIT_S = 10.0
"""A pending read without a byte, or a write without progress, fails after this long."""

WORK_LIMIT_S = 1800.0
"""How long a zrepl may do nothing but live, unless the config says otherwise: as long as a `zfs send` or `zfs
recv` of ours. It sets no limit to its own; a zrepl-trio does, and is believed."""


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


class WorkLimit:
    """Tells when a peer that lives has done nothing of its work for too long; `limit_s` may be infinite."""

    def __init__(self, now: float, limit_s: float = math.inf) -> None:
        self._limit_s = limit_s
        self._last = now

    @property
    def deadline(self) -> float:
        """When it is too long."""
        return self._last + self._limit_s

    def progress(self, now: float) -> None:
        """Something other than a heartbeat came or went, or the peer's turn has begun."""
        self._last = now

    def check(self, now: float, what: str) -> None:
        """PeerStuck if it is too long; `what` the peer should have done."""
        if now >= self.deadline:
            raise PeerStuck(
                f"the peer lives, but {what} for {self._limit_s:g} s: a zfs command may hang there; look "
                "at its pools and its log, or raise `global.zfs.stream_timeout` here if it is only slow"
            )


def work_limit(extensions: Sequence[str], limit_s: float) -> float:
    """`limit_s` for a zrepl, which names no extensions; none for a zrepl-trio, whose own limits may be longer and
    whose errors say more."""
    return math.inf if extensions else limit_s
