"""A pull job's work, and whole jobs under a supervisor: two hosts in memory, on the test clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.pruning.policies import LAST_1, NOT_REPLICATED, policy
from tests.replication.pair import MIB, Pair
from tests.rpc.pairs import PairConnecter
from zrepl_trio.endpoint.abstractions import step_tag
from zrepl_trio.errors import ConnectFailed, ZfsError
from zrepl_trio.jobs.active import ActiveJob, Progress, Schedule
from zrepl_trio.jobs.base import JobType, Outcome, Phase
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.report import PruneReport
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Report
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.names import DatasetPath

A = DatasetPath.parse("tank/a")


@dataclass
class SwitchedConnecter:
    """A link to the pair's sender, or to its receiver, that can be down."""

    pair: Pair
    down: bool = False
    pushes: bool = False
    dialled: int = 0
    peer = "memory"

    def __post_init__(self) -> None:
        async def serve(connection: Connection) -> None:
            served = self.pair.receiver if self.pushes else self.pair.sender
            await serve_connection(connection, served)

        self._inner = PairConnecter(serve)

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        if self.down:
            failure = ConnectFailed("no connection")
            failure.add_note("ssh: No route to host")
            raise failure
        async with self._inner.connect() as connection:
            yield connection


def ignore(_report: Progress) -> None:
    pass


@pytest.fixture
async def pair() -> Pair:
    made = Pair()
    made.fill("tank/a", MIB)
    await made.snapshot("tank/a", "1")
    return made


def work(pair: Pair, connecter: SwitchedConnecter) -> Replicating:
    return Replicating(
        connecter=connecter,
        here=pair.receiver,
        pulls=True,
        options=ReplicationOptions(reconnect_s=600),
        clock=FollowingClock(),
        decode_token=pair.target.decode_token,
    )


async def test_it_replicates_and_publishes(pair: Pair, autojump_clock: trio.abc.Clock) -> None:
    reports: list[Progress] = []
    result = await work(pair, SwitchedConnecter(pair))(reports.append, patient=True)
    assert result.outcome is Outcome.DONE, result.error
    assert isinstance(reports[-1], Report)
    assert reports[-1].replicated > MIB
    assert pair.same("tank/a", "1")


async def test_who_asked_is_told_at_once_that_the_link_is_down(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    result = await work(pair, SwitchedConnecter(pair, down=True))(ignore, patient=False)
    assert result.outcome is Outcome.CONNECT_FAILED
    assert "No route to host" in result.error
    assert trio.current_time() < 1


async def pushed(pair: Pair, *names: str) -> tuple[Replicating, SwitchedConnecter]:
    """A push that has replicated these, prunes both sides, and whose receiver has gone since."""
    connecter = SwitchedConnecter(pair, pushes=True)
    job = replace(
        work(pair, connecter),
        here=pair.sender,
        pulls=False,
        pruning=(policy(NOT_REPLICATED, LAST_1), policy(LAST_1, side=PruneSide.RECEIVER)),
    )
    for name in names:
        await pair.snapshot("tank/a", name)
    result = await replace(job, pruning=())(ignore, patient=True)
    assert result.outcome is Outcome.DONE, result.error
    connecter.down = True
    connecter.dialled = 0
    return job, connecter


async def names_left(pair: Pair) -> list[str]:
    return [v.name for v in await pair.source.versions(A) if v.is_snapshot]


async def test_a_run_that_somebody_asked_for_prunes_the_sender_of_a_push_whose_receiver_is_down(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    job, connecter = await pushed(pair, "2", "3")
    await pair.snapshot("tank/a", "4")
    reports: list[Progress] = []
    result = await job(reports.append, patient=False)
    assert result.outcome is Outcome.CONNECT_FAILED
    assert "No route to host" in result.error
    assert await names_left(pair) == ["3", "4"]
    # the link is tried once, and nothing is said of the other side's pruning
    assert connecter.dialled == 1
    assert {each.side for each in reports if isinstance(each, PruneReport)} == {PruneSide.SENDER}


async def test_a_pull_without_its_sender_prunes_nothing(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    connecter = SwitchedConnecter(pair)
    job = replace(work(pair, connecter), pruning=(policy(LAST_1, side=PruneSide.RECEIVER),))
    for name in ("2", "3"):
        assert (await replace(job, pruning=())(ignore, patient=True)).outcome is Outcome.DONE
        await pair.snapshot("tank/a", name)
    connecter.down = True
    result = await job(ignore, patient=False)
    assert result.outcome is Outcome.CONNECT_FAILED
    assert await pair.received("tank/a") == ["1", "2"]


async def test_dialling_may_take_as_long_as_its_limit_says(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    class Far(SwitchedConnecter):
        @asynccontextmanager
        async def _connect(self) -> AsyncIterator[Connection]:
            await trio.sleep(50)
            async with super()._connect() as connection:
                yield connection

    far = work(pair, Far(pair))
    result = await far(ignore, patient=False)
    assert result.outcome is Outcome.CONNECT_FAILED
    assert trio.current_time() < 25
    given = replace(
        far, connect_limit_s=65, options=ReplicationOptions(reconnect_s=600, answer_s=65)
    )
    result = await given(ignore, patient=False)
    assert result.outcome is Outcome.DONE, result.error


async def test_a_scheduled_run_waits_for_the_link_and_then_gives_up(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    result = await work(pair, SwitchedConnecter(pair, down=True))(ignore, patient=True)
    assert result.outcome is Outcome.CONNECT_FAILED
    assert "No route to host" in result.error
    assert trio.current_time() >= 600


async def test_a_link_that_comes_back_in_time_is_used(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    connecter = SwitchedConnecter(pair, down=True)

    async def repair() -> None:
        await trio.sleep(100)
        connecter.down = False

    nursery.start_soon(repair)
    result = await work(pair, connecter)(ignore, patient=True)
    assert result.outcome is Outcome.DONE, result.error
    assert pair.same("tank/a", "1")


async def test_a_failing_filesystem_is_an_outcome_of_its_own(
    pair: Pair, autojump_clock: trio.abc.Clock
) -> None:
    connecter = SwitchedConnecter(pair)
    assert (await work(pair, connecter)(ignore, patient=True)).outcome is Outcome.DONE
    pair.fill("tank/b", MIB)
    await pair.snapshot("tank/b", "1")
    await pair.target.snapshot((await pair.target.datasets())[-1].path, "own")
    await pair.snapshot("tank/a", "2")
    result = await work(pair, connecter)(ignore, patient=True)
    assert result.outcome is Outcome.FILESYSTEM_ERRORS
    assert "tank/a" in result.error
    assert pair.same("tank/b", "1")


async def test_a_day_of_a_pull_job_with_a_night_without_network(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    connecter = SwitchedConnecter(pair)
    job = ActiveJob(
        name="pull",
        type=JobType.PULL,
        schedule=Schedule(interval_s=600),
        work=work(pair, connecter),
        clock=FollowingClock(),
        runtime_dir=str(tmp_path),
    )
    supervisor = Supervisor([job], clock=FollowingClock(), policy=RestartPolicy())
    await nursery.start(supervisor.run)
    await trio.sleep(8 * 3600)
    assert job.status().error == ""
    connecter.down = True
    await trio.sleep(8 * 3600)
    waiting = job.status().replication
    assert waiting is not None
    assert waiting.wait_error is not None
    assert "No route to host" in waiting.wait_error.text
    assert supervisor.status()[0].failures == 0
    connecter.down = False
    await pair.snapshot("tank/a", "morning")
    await trio.sleep(1230)  # not at a tick, where a run is on
    status = supervisor.status()[0]
    assert status.phase is Phase.WAITING
    assert status.error == ""
    assert pair.same("tank/a", "morning")
    nursery.cancel_scope.cancel()


async def test_a_plan_shows_which_holds_go_on_both_sides_where_they_can_be_read(
    pair: Pair, autojump_clock: trio.abc.Clock
) -> None:
    job = work(pair, SwitchedConnecter(pair))
    assert (await job(ignore, patient=True)).outcome is Outcome.DONE
    for zfs in (pair.source, pair.target):
        zfs.calls.clear()
    await job.plan()
    for zfs in (pair.source, pair.target):
        assert not any(call.startswith("holds") for call in zfs.calls)  # nothing new
    await pair.snapshot("tank/a", "2")
    for tag in (step_tag("src"), step_tag("other")):  # as an interrupted step leaves it
        await pair.source.hold(A, ["1"], tag)
    (shown,) = await job.plan()
    assert shown.receiver.releases == ("@1",)
    assert shown.sender.releases == ("@1",)
    assert shown.sender.destroys is not None
    assert len(shown.sender.destroys) == 1

    async def fail(call: str, _dataset: str) -> None:
        if call.startswith("holds"):
            raise ZfsError("not now")

    pair.target.before = pair.source.before = fail
    (shown,) = await job.plan()
    assert shown.receiver.releases is shown.sender.releases is None
    assert [step.to for step in shown.steps] == ["@2"]
