"""How long a zfs command may do nothing before it is given up."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ZfsLimits"]


@dataclass(frozen=True, slots=True)
class ZfsLimits:
    """In seconds. Generous: a pool that is busy with a scrub or a great destroy answers within
    minutes, and a `zfs recv` that frees much takes nothing meanwhile.

    `command_s`: how long a command may print nothing, or not end. `stream_s`: how long a `zfs
    send` may give nothing to whoever waits for it, or a `zfs recv` take nothing of what waits for
    it, or either not end once its stream has.
    """

    command_s: float = 600.0
    stream_s: float = 1800.0
