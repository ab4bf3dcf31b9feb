"""Tasks that serve a block of code and end with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

__all__ = ["open_background"]


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block ends, and whose errors come bare.

    For resources with a task inside: the user of `async with open_thing()` is to see the
    exception raised in the block, or the one that ended the task, and no group that tells of
    a nursery. Only when several tasks fail at once does a group come out.
    """
    failure: BaseException | None = None
    surfaced: BaseException
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                failure = error
                raise
            finally:
                nursery.cancel_scope.cancel()
        return
    except BaseExceptionGroup as group:
        if failure is not None and not isinstance(failure, trio.Cancelled):
            surfaced = failure
        else:
            rest = group.split(trio.Cancelled)[1] or group
            surfaced = rest.exceptions[0] if len(rest.exceptions) == 1 else rest
    # outside the handler, so that the group does not become its context
    raise surfaced
