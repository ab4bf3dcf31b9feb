"""A zrepl that receives is given time to save what came before the link was cut."""

from __future__ import annotations

from dataclasses import replace

import trio

from tests.fakes.endpoint import FakeEndpoint
from tests.replication.notation import path
from tests.replication.pair import MIB, Cable, Pair, the
from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.errors import TransportError
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.replication.saved import SAVE_S, until_saved

A = path("tank/a")


class Zrepl(Cable):
    """A sink that lists its partly received states only `late` seconds after the first of them."""

    late = 5.0
    moves_ranges = False
    _since: float | None = None

    async def list_filesystems(self) -> list[Filesystem]:
        listed = await super().list_filesystems()
        if self._since is None and any(each.resume_token for each in listed):
            self._since = trio.current_time()
        if self._since is not None and trio.current_time() < self._since + self.late:
            return [replace(each, resume_token="") for each in listed]
        return listed


async def test_it_ends_as_soon_as_all_is_saved(autojump_clock: trio.abc.Clock) -> None:
    sink = FakeEndpoint()
    sink.filesystems = [Filesystem(path=A), Filesystem(path=path("tank/b"))]
    ended = trio.Event()

    async def wait() -> None:
        await until_saved(sink, {A})
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(3.5)
        assert not ended.is_set()
        sink.filesystems = [Filesystem(path=A, resume_token="1-a")]
        await trio.sleep(1)
        assert ended.is_set()


async def test_it_ends_when_nothing_was_saved(autojump_clock: trio.abc.Clock) -> None:
    began = trio.current_time()
    await until_saved(FakeEndpoint(), {A})
    assert trio.current_time() - began == SAVE_S


async def test_a_receiver_that_does_not_answer_is_left_to_the_planning(
    autojump_clock: trio.abc.Clock,
) -> None:
    sink = FakeEndpoint()
    sink.error = TransportError("gone again")
    began = trio.current_time()
    await until_saved(sink, {A})
    assert trio.current_time() == began


async def test_what_a_zrepl_saves_late_is_resumed_all_the_same(
    autojump_clock: trio.abc.Clock,
) -> None:
    pair = Pair()
    pair.fill("tank/a", 4 * MIB)
    await pair.snapshot("tank/a", "1")
    pair.cable.cut_after = 3 * MIB
    report = await replicate(
        pair.cable,
        Zrepl(pair.receiver),
        ReplicationOptions(),
        report=pair.reports.append,
        clock=pair.clock,
        decode_token=pair.target.decode_token,
    )
    assert report.outcome is Outcome.DONE
    (step,) = the(report, "tank/a").steps
    assert step.resumed
    assert pair.cable.moved < 5 * MIB
    assert pair.same("tank/a", "1")
