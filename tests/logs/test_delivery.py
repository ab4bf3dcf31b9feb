"""Connections that fail, stall, close and come back, on the test clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from tests.support.resources import cancel_at_each_step
from zrepl_trio.logs.delivery import Delivery

RETRY_S = 10.0


class Place:
    """An outlet's other end: each attempt to connect takes the next of `script`."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.attempts: list[float] = []
        self.received: list[bytes] = []
        self.troubles: list[str] = []
        self.ends: list[trio.testing.MemorySendStream] = []

    async def connect(self) -> trio.abc.SendStream:
        self.attempts.append(trio.current_time())
        match self.script.pop(0) if len(self.script) > 1 else self.script[0]:
            case "refuse":
                raise ConnectionRefusedError(111, "Connection refused")
            case "ignore":
                await trio.sleep_forever()
            case "stall":
                stalled: trio.abc.SendStream = Stalled()
                return stalled
            case _:
                pass
        ours, theirs = trio.testing.memory_stream_pair()
        self.ends.append(theirs.send_stream)
        ours.send_stream.send_all_hook = self._take(ours.send_stream)
        return ours

    def _take(self, stream: trio.testing.MemorySendStream) -> Callable[[], Awaitable[None]]:
        async def take() -> None:
            self.received.append(bytes(stream.get_data_nowait()))

        return take

    def delivery(self, at_once_bytes: int = 16 * 1024) -> Delivery:
        return Delivery(
            self.connect,
            retry_s=RETRY_S,
            at_once_bytes=at_once_bytes,
            trouble=self.troubles.append,
            lost=lambda lines: b"%d lost\n" % lines,
        )


class Stalled(trio.abc.SendStream):
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_an_absent_place_is_tried_again_and_again_and_then_gets_everything(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    place = Place("refuse", "refuse", "ignore", "take")
    delivery = place.delivery()
    nursery.start_soon(delivery.run)
    delivery.queue.put(b"a\n")
    await trio.sleep(15)
    delivery.queue.put(b"b\n")
    await trio.sleep(100)
    assert place.attempts == [0, 10, 20, 30]
    assert place.received == [b"a\nb\n"]
    assert place.troubles == ["Connection refused", "Connection refused", "no progress within 10 s"]
    nursery.cancel_scope.cancel()


async def test_a_place_that_takes_nothing_is_left_and_the_lines_are_sent_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    place = Place("stall", "take")
    delivery = place.delivery(at_once_bytes=0)
    nursery.start_soon(delivery.run)
    delivery.queue.put(b"a\n")
    delivery.queue.put(b"b\n")
    await trio.sleep(30)
    assert place.received == [b"a\n", b"b\n"]
    assert place.troubles == ["no progress within 10 s"]
    nursery.cancel_scope.cancel()


async def test_what_was_lost_meanwhile_is_told_before_the_rest(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    place = Place("refuse", "take")
    delivery = place.delivery()
    line = b"x" * 100_000
    for number in range(20):
        delivery.queue.put(b"%02d" % number + line)
    nursery.start_soon(delivery.run)
    await trio.sleep(30)
    assert place.received[0] == b"10 lost\n"
    assert [sent[:2] for sent in place.received[1:]] == [b"%d" % n for n in range(10, 20)]
    nursery.cancel_scope.cancel()


async def test_a_close_is_noticed_at_once_so_that_nothing_is_sent_into_the_void(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    place = Place("take")
    delivery = place.delivery()
    nursery.start_soon(delivery.run)
    await trio.sleep(25)
    place.ends[0].close()
    await settled()
    delivery.queue.put(b"after\n")
    await settled()
    assert place.attempts == [0, 25]
    assert place.received == [b"after\n"]
    assert place.troubles == ["the other side closed the connection"]
    nursery.cancel_scope.cancel()


async def test_closed_it_delivers_the_rest_and_ends(autojump_clock: trio.testing.MockClock) -> None:
    place = Place("take")
    delivery = place.delivery()
    delivery.queue.put(b"last words\n")
    delivery.close()
    await delivery.run()
    assert place.received == [b"last words\n"]


async def test_closed_it_tries_once_more_at_once_and_gives_up(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    place = Place("refuse")
    delivery = place.delivery()
    delivery.queue.put(b"last words\n")
    async with trio.open_nursery() as running:
        running.start_soon(delivery.run)
        await trio.sleep(4)
        delivery.close()
    assert place.attempts == [0, 4]


@pytest.mark.parametrize("step", ["refuse", "stall", "take"])
async def test_cancelled_anywhere_it_leaves_nothing(step: str) -> None:
    async def once() -> None:
        place = Place(step)
        delivery = place.delivery()
        delivery.queue.put(b"a\n")
        with trio.move_on_after(0.02):
            await delivery.run()

    assert await cancel_at_each_step(partial(once)) > 3
