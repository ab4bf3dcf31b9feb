"""What a send stream's first bytes tell, before a `zfs recv` is started on them. Pure.

A stream begins with a record of RECORD_BYTES, DRR_BEGIN, in the byte order of its sender. One with
properties comes in a package: such a record with a list behind it, a DRR_END, and then the record of the
stream itself, which alone tells whether it is raw (OpenZFS, include/sys/zfs_ioctl.h).
"""

from __future__ import annotations

import struct

__all__ = ["MOST_HEAD_BYTES", "RECORD_BYTES", "head_bytes", "is_raw"]

RECORD_BYTES = 312
"""sizeof(dmu_replay_record_t)."""

MOST_HEAD_BYTES = 1 << 20
"""A package's list that is longer than that is not read; zrepl looks at as much."""

_BEGIN = 0
_MAGIC = 0x2F5BACBAC
_ORDERS = {_MAGIC.to_bytes(8, "little"): "<", _MAGIC.to_bytes(8, "big"): ">"}
_PACKAGE = 2  # DMU_COMPOUNDSTREAM, in the two lowest bits
_RAW = 1 << (2 + 24)  # DMU_BACKUP_FEATURE_RAW, above them


def head_bytes(head: bytes) -> int:
    """How many of the stream's bytes tell, as far as those known so far can say."""
    found = _begin(head)
    if found is None:
        return RECORD_BYTES
    payload, version = found
    return RECORD_BYTES if version & 3 != _PACKAGE else 3 * RECORD_BYTES + payload


def is_raw(head: bytes) -> bool | None:
    """Whether the stream that begins so is raw; None when that cannot be told."""
    found = _begin(head)
    if found is not None and found[1] & 3 == _PACKAGE:
        found = _begin(head[head_bytes(head) - RECORD_BYTES :])
    return None if found is None else bool(found[1] & _RAW)


def _begin(head: bytes) -> tuple[int, int] | None:
    """The length of what follows the DRR_BEGIN there, and its drr_versioninfo."""
    order = _ORDERS.get(head[8:16])
    if order is None or len(head) < RECORD_BYTES:
        return None
    kind, payload, _, version = struct.unpack_from(f"{order}IIQQ", head)
    return (payload, version) if kind == _BEGIN else None
