"""A lock that is mostly free."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

__all__ = ["Taking"]


class Taking(AbstractAsyncContextManager[None]):
    """`async with lock`, which so gives nobody else their turn where the lock is free, and is no checkpoint then:
    what is done while it is held has its own."""

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_error: object) -> None:
        self._lock.release()
