from __future__ import annotations

import pytest
import trio

from tests.replication.pair import Cable, Pair
from zrepl_trio.errors import HandshakeFailed, RemoteProtocolError, TransportError, ZreplError
from zrepl_trio.replication.link import link_error, wait_for_link
from zrepl_trio.replication.policy import ANSWER_S


class Peer(Cable):
    """A side with two kinds of connection, whose answers a test chooses."""

    def __init__(self) -> None:
        super().__init__(Pair().sender)
        self.echo = ""
        self.errors: list[ZreplError] = []
        self.silent = False

    async def ping_data(self, message: str) -> str:
        self.calls.append("ping_data")
        if self.silent:
            await trio.sleep_forever()
        if self.errors:
            raise self.errors.pop(0)
        return self.echo or message


async def test_both_kinds_of_connection_must_answer() -> None:
    peer = Peer()
    assert await link_error([peer]) is None
    assert peer.calls == ["ping", "ping_data"]


async def test_the_control_connection_alone_can_be_asked() -> None:
    peer = Peer()
    peer.errors = [TransportError("would fail on data")]
    assert await link_error([peer], data=False) is None
    assert peer.calls == ["ping"]


async def test_a_side_that_fails_is_told_by_its_error() -> None:
    peer = Peer()
    broken = TransportError("refused")
    peer.errors = [broken]
    assert await link_error([Pair().sender, peer]) is broken


async def test_silence_has_an_end(autojump_clock: trio.abc.Clock) -> None:
    peer = Peer()
    peer.silent = True
    start = trio.current_time()
    assert await link_error([peer]) == f"no answer to a ping within {ANSWER_S:.0f} s"
    assert trio.current_time() - start == pytest.approx(ANSWER_S)


async def test_a_wrong_echo_is_no_answer() -> None:
    peer = Peer()
    peer.echo = "something else"
    assert isinstance(await link_error([peer]), RemoteProtocolError)


async def test_waiting_goes_on_until_there_is_an_answer(autojump_clock: trio.abc.Clock) -> None:
    peer = Peer()
    peer.errors = [TransportError("down") for _ in range(7)]
    start = trio.current_time()
    assert await wait_for_link([peer], 600) is None
    # 1 + 2 + 4 + 8 + 16 + 30 + 30
    assert trio.current_time() - start == pytest.approx(91)


async def test_waiting_has_an_end(autojump_clock: trio.abc.Clock) -> None:
    peer = Peer()
    last = TransportError("down")
    peer.errors = [last] * 1000
    start = trio.current_time()
    assert await wait_for_link([peer], 600) is last
    assert trio.current_time() - start == pytest.approx(600)


async def test_what_waiting_cannot_mend_ends_it_at_once(autojump_clock: trio.abc.Clock) -> None:
    peer = Peer()
    wrong = HandshakeFailed("protocol version 6")
    peer.errors = [TransportError("down"), wrong]
    start = trio.current_time()
    assert await wait_for_link([peer], 600) is wrong
    assert trio.current_time() - start == pytest.approx(1)


async def test_an_error_in_a_group_is_taken_out(autojump_clock: trio.abc.Clock) -> None:
    class Grouped(Peer):
        async def ping(self, message: str) -> str:
            async with trio.open_nursery():
                raise TransportError("inside")

    error = await link_error([Grouped()])
    assert isinstance(error, TransportError)
