"""What is not destroyed for a peer, and in which words it is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from zrepl_trio.zfs.model import FilesystemVersion

__all__ = ["AWAITED", "FLOOR", "HELD", "Floor", "is_left_alone", "no_floor"]

HELD = "is held, `zfs holds -r` shows holds: left alone"
FLOOR = "refused: kept by the floor of"
"""Begins what a client is told that wants more destroyed than `pruning.floor` lets it."""
AWAITED = "is what the next increment that is received here goes on from: left alone"

_STAYS = (
    HELD,
    FLOOR,
    AWAITED,
    "dataset is busy",
    "being held",
    "has dependent clones",
    "snapshot is cloned",
)
"""zfs's words for a snapshot that somebody else still needs, and ours."""


def is_left_alone(error: str) -> bool:
    """Whether a snapshot is still there since somebody wants it to be, which is no failure of ours."""
    return any(words in error for words in _STAYS)


class Floor(Protocol):
    """What is not destroyed for a peer."""

    def __call__(self, versions: Sequence[FilesystemVersion]) -> Mapping[str, str]:
        """Of all versions of a filesystem, by createtxg: the names of the snapshots that stay, and what a
        peer is told that wants one gone, which begins with FLOOR."""


def no_floor(versions: Sequence[FilesystemVersion]) -> Mapping[str, str]:
    """A peer may have all of them destroyed."""
    del versions
    return {}
