"""How receives are refused and how they end badly, in zfs's own words."""

from __future__ import annotations

from zrepl_trio.emulate.fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "cannot_receive",
    "diverged",
    "incomplete",
    "kind_of",
    "no_room",
    "nothing_received",
    "partly_received",
]


def kind_of(begin: Mapping[str, str]) -> str:
    """What zfs calls a stream with that begin record."""
    if "resuming" in begin:
        return "resume"
    return "incremental" if "fromguid" in begin else "new filesystem"


def cannot_receive(begin: Mapping[str, str]) -> str:
    """How every refusal begins."""
    return f"cannot receive {kind_of(begin)} stream"


def incomplete(begin: Mapping[str, str], reason: str, token: str | None) -> Fault:
    """How a receive ends whose stream was `incomplete stream` or had a `checksum mismatch`."""
    if token is None:
        return Fault(f"{cannot_receive(begin)}: {reason}")
    return Fault(
        f"{cannot_receive(begin)}: checksum mismatch or incomplete stream.\n"
        "Partially received snapshot is saved.\n"
        "A resuming stream can be generated on the sending system by running:\n"
        f"    zfs send -t {token}"
    )


def nothing_received(begin: Mapping[str, str], dataset: str, *, created: bool) -> Fault:
    """How a receive ends that got no more than a begin record: nothing is kept, with -s too."""
    missing = f"cannot open '{dataset}': dataset does not exist\n" if created else ""
    return Fault(f"{missing}{cannot_receive(begin)}: invalid backup stream")


def partly_received(begin: Mapping[str, str], dataset: str, *, resumable: bool = True) -> Fault:
    """An earlier receive into it stopped early, or runs right now; only that can be not `resumable`."""
    if not resumable:
        return Fault(f"{cannot_receive(begin)}: dataset is busy")
    return Fault(
        f"{cannot_receive(begin)}: destination {dataset} contains partially-complete state"
        ' from "zfs receive -s".'
    )


def diverged(begin: Mapping[str, str], dataset: str) -> Fault:
    """The target is not what the increment is based on."""
    return Fault(
        f"{cannot_receive(begin)}: destination {dataset} has been modified\nsince most recent snapshot"
    )


def no_room(begin: Mapping[str, str], dataset: str, quota_of: str) -> Fault:
    """How a receive ends for lack of space; `quota_of` "" when it is the pool that is full. What
    arrived is kept, though zfs doesn't say so."""
    reason = f"destination {dataset} space quota exceeded." if quota_of else "out of space"
    return Fault(f"{cannot_receive(begin)}: {reason}")
