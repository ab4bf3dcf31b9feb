"""Names of what was set aside on a receiver, made and recognised. Pure.

A name is all that tells a copy: one that was replicated on to a further host has it there, too, so
that only the sender's listing tells it from a replica.
"""

from __future__ import annotations

import re

from zrepl_trio.errors import Refused
from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = ["PLACEHOLDER_ASIDE", "SET_ASIDE", "copy_around", "copy_name", "is_stamp"]

SET_ASIDE = ".diverged-"
"""Stands between a replica's name and the time at which it was set aside."""

PLACEHOLDER_ASIDE = f"{SET_ASIDE}placeholder"
"""Stands behind the name of a placeholder that has stepped aside for what is received."""

_STAMP = re.compile(r"[0-9TZ]{1,32}", re.ASCII)


def is_stamp(text: str) -> bool:
    """Whether that can be the time in a copy's name."""
    return _STAMP.fullmatch(text) is not None


def copy_name(path: DatasetPath, stamp: str) -> DatasetPath:
    """What a replica is called once it is set aside; Refused when that is too long a name."""
    try:
        return DatasetPath.parse(f"{path}{SET_ASIDE}{stamp}")
    except InvalidName as error:
        raise Refused(f"{path} cannot be kept as a copy: {error}") from None


def copy_around(path: DatasetPath) -> DatasetPath | None:
    """The copy that was set aside and is of that name, or above it, the topmost; None where there is
    none."""
    for each in (*path.ancestors(), path):
        name, sign, stamp = each.components[-1].rpartition(SET_ASIDE)
        if name and sign and is_stamp(stamp):
            return each
    return None
