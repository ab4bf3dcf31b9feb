"""A cut strikes at a byte, and lets those before it pass."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.hunt.network import FaultyNetwork
from zrepl_trio.errors import ConnectFailed
from zrepl_trio.simulate.joining import Join

JOIN = Join(host="backup", job="pull", peer="app", peer_job="source", identity="backup")


async def test_a_connection_breaks_at_a_byte(autojump_clock: trio.testing.MockClock) -> None:
    """What is shorter does not; the next one is whole again."""
    network = FaultyNetwork([JOIN])
    network.cut("pull", lambda: None, at=100)
    short, broken = network.link(JOIN), network.link(JOIN)
    assert [await short(60), await short(40)] == [60, 40]
    assert [await broken(60), await broken(60)] == [60, 40]
    with pytest.raises(ConnectFailed, match="cut"):
        await broken(1)
    assert await network.link(JOIN)(1_000) == 1_000


async def test_a_connection_breaks_within_a_write(autojump_clock: trio.testing.MockClock) -> None:
    """Whichever connection it goes over; never after it, for then nothing is lost of it."""
    network = FaultyNetwork([JOIN])
    network.cut("pull", lambda: None, at=30, writes=3)
    first, second = network.link(JOIN), network.link(JOIN)
    assert [await first(500), await second(500)] == [500, 500]
    assert await first(20) == 19
    with pytest.raises(ConnectFailed, match="cut"):
        await first(1)
    assert await second(500) == 500
