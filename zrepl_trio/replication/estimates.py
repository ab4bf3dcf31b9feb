"""What steps will send, asked by dry runs, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
import trio

from zrepl_trio.endpoint.model import SendRequest
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import ZreplError, leaves
from zrepl_trio.replication.classify import main_error

__all__ = ["estimate_sizes"]

log = structlog.get_logger()

_K = TypeVar("_K")


async def estimate_sizes(
    sender: Endpoint,
    steps: Iterable[tuple[_K, SendRequest]],
    *,
    at_once: int,
    tell: Callable[[_K, int], None],
) -> None:
    """Ask for the size in bytes of each step, and `tell` those that the sender knows.

    `steps` is drawn from as workers become free. A size that can't be had is no error: the step
    itself will meet whatever is wrong, and there it counts.
    """
    todo = iter(steps)

    async def work() -> None:
        for key, request in todo:  # shared: each worker takes the next one
            try:
                size = await sender.send_dry(request)
                if size:
                    tell(key, size)
            except* ZreplError as group:
                error = main_error(leaves(group))
                log.debug("size is unknown", filesystem=str(request.filesystem), err=str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
