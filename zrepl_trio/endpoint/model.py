"""What the two sides of a replication tell and ask each other, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum, IntEnum

from zrepl_trio.values import valueclass
from zrepl_trio.zfs.model import FilesystemVersion, Hold
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "MAX_RANGE",
    "Filesystem",
    "GuaranteeKind",
    "Marks",
    "Protection",
    "ReceiveRequest",
    "ResolveRequest",
    "SendRequest",
    "SnapshotTimes",
    "Way",
]


class GuaranteeKind(IntEnum):
    """zrepl's ReplicationGuaranteeKind, numbered as on the wire."""

    RESUMABILITY = 1
    INCREMENTAL = 2
    NOTHING = 3


@valueclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """Which kind holds for a full step (`initial`) and for an incremental one."""

    initial: GuaranteeKind = GuaranteeKind.RESUMABILITY
    incremental: GuaranteeKind = GuaranteeKind.RESUMABILITY


@valueclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """One filesystem of a side, under the sender's name.

    `dataset_guid` on a sender is the dataset's own guid, on a receiver the guid of the
    sender's dataset noted on the replica; None when unknown (a zrepl peer never tells). `written`, on
    a receiver, as in `zfs.model.Dataset`; None where unknown.
    """

    path: DatasetPath
    resume_token: str | None = None
    is_placeholder: bool = False
    dataset_guid: int | None = None
    written: int | None = None


MAX_RANGE = 1_000
"""Most snapshots in one range: their names must fit into a few command lines and one message."""


@valueclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """One step: from `from_` (None: full) to `to`, or what `resume_token` still lacks of it.

    A range has in `between` all snapshots after the snapshot `from_` and before `to`, oldest first:
    they go in the same stream, each as a step of its own would send it. Only a side that
    `moves_ranges` is asked for one. `at_once`, which crosses no wire: the peer never says when to do what was put
    off, so nothing is.
    """

    filesystem: DatasetPath
    to: FilesystemVersion
    from_: FilesystemVersion | None = None
    between: tuple[FilesystemVersion, ...] = ()
    resume_token: str | None = None
    protection: Protection = Protection()
    at_once: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class ReceiveRequest:
    """The receiver's half of that step or range.

    `source_guid` is the sender's dataset guid, which a zrepl does not tell; `raw` whether the stream is
    one of an encrypted dataset that stays so, which crosses no wire; None where unknown.
    """

    filesystem: DatasetPath
    to: FilesystemVersion
    clear_resume_token: bool
    between: tuple[FilesystemVersion, ...] = ()
    protection: Protection = Protection()
    source_guid: int | None = None
    raw: bool | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The versions of one dataset and their holds, as the side of `job` finds them; `holds` None: not
    known."""

    job: str
    versions: Sequence[FilesystemVersion] = ()
    holds: Sequence[Hold] | None = None


class Way(Enum):
    """What a receiver is asked to do so that a replica fits again: a way out of a conflict, or a new
    name where the sender's dataset has one."""

    ROLLBACK = "rollback"
    KEEP_COPY = "keep_copy"
    RENAME = "rename"


@valueclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """Make the replica fit again. `expected` are its snapshots as they were when that was decided,
    oldest first: with others there now, nothing is done.

    ROLLBACK goes back to `to`, and destroys what is newer. KEEP_COPY renames the replica; `stamp`
    becomes part of the copy's name. RENAME: the replica is the first of the names in `old`, all the
    sender's, that fits, unless it has come to its new name already.
    """

    filesystem: DatasetPath
    way: Way
    expected: tuple[FilesystemVersion, ...]
    to: FilesystemVersion | None = None
    stamp: str = ""
    old: tuple[DatasetPath, ...] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class SnapshotTimes:
    """When two snapshots of a dataset were taken, in seconds since the epoch: the sender's newest,
    and the newest that both sides have. None: there is none, or it was never seen."""

    newest: int | None = None
    replicated: int | None = None

    @property
    def lag_s(self) -> float | None:
        """By how much the copy is behind the sender; infinite while there is no copy, None while
        there is nothing to copy."""
        if self.newest is None:
            return None
        return math.inf if self.replicated is None else max(0, self.newest - self.replicated)
