"""Placeholders: the empty filesystems that stand for a replica's missing parents.

Planning is pure; the receiver creates what is planned, under a lock. A placeholder is made
only strictly below `root_fs`: the root itself is the admin's.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from zrepl_trio.errors import Refused
from zrepl_trio.zfs.argv import PLACEHOLDER
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "NO_LONGER",
    "PlaceholderEncryption",
    "missing_parents",
    "placeholder_properties",
]

NO_LONGER = "off"
"""The property's value on real data; set, not inherited, so that no parent's shows through."""


class PlaceholderEncryption(Enum):
    """The job's `recv.placeholder.encryption`."""

    UNSPECIFIED = "unspecified"
    INHERIT = "inherit"
    OFF = "off"


def missing_parents(
    *, root: DatasetPath, target: DatasetPath, existing: Collection[DatasetPath]
) -> list[DatasetPath]:
    """The placeholders that `target` needs, topmost first.

    `existing` are the datasets known at and above the target's parent. Raises Refused when
    `root` itself is missing.
    """
    if root not in existing:
        raise Refused(
            f"root_fs {root} does not exist: create it (`zfs create {root}`) or import its pool"
        )
    return [path for path in target.ancestors() if path.is_below(root) and path not in existing]


def placeholder_properties(
    path: DatasetPath, *, client_root: DatasetPath, encryption: PlaceholderEncryption
) -> dict[str, str]:
    """What the placeholder `path` is created with.

    Raises Refused while the job does not say whether placeholders are to be encrypted: a wrong
    guess would later put clear text where the admin expects none. Only a client's own top
    dataset needs no answer; it inherits.
    """
    properties = {PLACEHOLDER: "on", "mountpoint": "none"}
    match encryption:
        case PlaceholderEncryption.OFF:
            properties["encryption"] = "off"
        case PlaceholderEncryption.INHERIT:
            pass
        case PlaceholderEncryption.UNSPECIFIED:
            if path != client_root:
                raise Refused(
                    f"{path} is missing and must be created as a placeholder, but the job does "
                    "not say whether placeholders are encrypted: set "
                    "`recv.placeholder.encryption` to `inherit` (as its parent) or `off`"
                )
    return properties
