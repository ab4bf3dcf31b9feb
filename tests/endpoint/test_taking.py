"""Locks that are mostly free."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from zrepl_trio.endpoint.taking import Taking


async def test_a_free_lock_is_taken_at_once_and_given_back() -> None:
    lock = trio.Lock()
    with trio.testing.assert_no_checkpoints():
        async with Taking(lock):
            assert lock.locked()
    with pytest.raises(ValueError, match="out"):
        async with Taking(lock):
            raise ValueError("out")
    assert not lock.locked()


async def test_one_that_is_held_is_waited_for(autojump_clock: trio.abc.Clock) -> None:
    lock = trio.Lock()
    order: list[str] = []

    async def take(name: str, limit_s: float) -> None:
        with trio.move_on_after(limit_s):
            async with Taking(lock):
                order.append(name)

    async with trio.open_nursery() as nursery:
        async with Taking(lock):
            nursery.start_soon(take, "is cancelled", 1)
            nursery.start_soon(take, "waits", 3)
            await trio.sleep(2)
            assert order == []
        order.append("given back")
    assert order == ["given back", "waits"]
    assert not lock.locked()
