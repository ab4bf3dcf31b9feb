"""Simulated links carry bytes, ends and breaks as a network would."""

from __future__ import annotations

import pytest
import trio

from zrepl_trio.errors import ConnectFailed
from zrepl_trio.simulate.wire import MemoryConnection, memory_connections


async def up(count: int) -> int:
    return count


def pair() -> tuple[MemoryConnection, MemoryConnection]:
    return memory_connections(("server", "client"), up)


async def test_bytes_arrive_in_their_order_and_in_pieces_as_asked_for() -> None:
    ours, theirs = pair()
    assert (ours.client_identity, theirs.client_identity) == ("server", "client")
    await ours.send_all(b"abc")
    await ours.send_all(bytearray(b"def"))
    assert await theirs.receive_some(2) == b"ab"
    assert await theirs.receive_some() == b"cdef"
    await theirs.send_all(memoryview(b"back"))
    assert await ours.receive_some(100) == b"back"


async def test_who_receives_waits_for_bytes() -> None:
    ours, theirs = pair()
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await theirs.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        with pytest.raises(trio.BusyResourceError):
            await theirs.receive_some()
        await ours.send_all(b"x")
    assert got == [b"x"]


async def test_an_end_comes_after_the_bytes_and_leaves_the_way_back() -> None:
    ours, theirs = pair()
    await ours.send_all(b"last")
    await ours.send_eof()
    assert await theirs.receive_some() == b"last"
    assert await theirs.receive_some() == b""
    await theirs.send_all(b"still")
    assert await ours.receive_some() == b"still"
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"more")


async def test_a_closed_end_is_an_end_to_the_other_and_takes_nothing() -> None:
    ours, theirs = pair()
    await theirs.send_all(b"never read")
    await ours.send_all(b"sent before")
    await ours.aclose()
    assert await theirs.receive_some() == b"sent before"
    assert await theirs.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"x")
    for refused in (ours.receive_some(), ours.send_all(b"x"), ours.send_eof()):
        with pytest.raises(trio.ClosedResourceError):
            await refused


async def test_who_waits_on_an_end_that_is_closed_is_told() -> None:
    ours, _theirs = pair()
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        ours.close()


async def test_a_cut_link_breaks() -> None:
    async def cut(_count: int) -> int:
        raise ConnectFailed("the link is down")

    ours, _theirs = memory_connections(("server", "client"), cut)
    with pytest.raises(trio.BrokenResourceError, match="the link is down"):
        await ours.send_all(b"x")


async def test_what_was_on_its_way_before_a_link_breaks_arrives() -> None:
    left = 5

    async def cut(count: int) -> int:
        nonlocal left
        passed = min(count, left)
        left -= passed
        return passed

    ours, theirs = memory_connections(("server", "client"), cut)
    await ours.send_all(b"abc")
    with pytest.raises(trio.BrokenResourceError, match="broke"):
        await ours.send_all(bytearray(b"defg"))
    ours.close()
    assert await theirs.receive_some() == b"abcde"
    assert await theirs.receive_some() == b""


async def test_a_cancelled_task_neither_sends_nor_takes_anything() -> None:
    ours, theirs = pair()
    await ours.send_all(b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await theirs.receive_some()
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.send_all(b"never")
    assert scope.cancelled_caught
    assert await theirs.receive_some() == b"kept"
