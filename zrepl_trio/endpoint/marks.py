"""What a job finds on a filesystem before it acts: the versions, and the holds that are its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from zrepl_trio.endpoint.model import Marks
from zrepl_trio.errors import DatasetNotFound, ZreplError
from zrepl_trio.zfs.model import FilesystemVersion, Hold
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["marks_by"]

WithHolds: TypeAlias = Callable[
    [DatasetPath], Awaitable[tuple[Sequence[FilesystemVersion], Sequence[Hold]]]
]


async def marks_by(
    with_holds: WithHolds, places: Mapping[DatasetPath, DatasetPath], *, job: str, tag: str
) -> dict[DatasetPath, Marks | ZreplError]:
    """Of each of `places` here, by the peer's name for it, or why it cannot be told; nothing where there is no
    such dataset. Holds with another tag than the job's are not for the peer."""
    found: dict[DatasetPath, Marks | ZreplError] = {}
    for wire, local in places.items():
        try:
            versions, holds = await with_holds(local)
        except DatasetNotFound:
            found[wire] = Marks(job=job, holds=())
        except ZreplError as error:
            found[wire] = error
        else:
            own = [hold for hold in holds if hold.tag == tag]
            found[wire] = Marks(job=job, versions=versions, holds=own)
    return found
