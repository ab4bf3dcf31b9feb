"""What pruning would do, told without doing it."""

from __future__ import annotations

import trio

from tests.fakes.endpoint import FakeEndpoint
from tests.pruning.policies import LAST_1, policy
from tests.pruning.test_pruner import SENDER, left, replicated
from tests.replication.notation import path, version
from tests.replication.pair import SteppingClock
from zrepl_trio.endpoint.model import Filesystem
from zrepl_trio.pruning.planner import Planner


async def test_other_jobs_go_on_while_many_filesystems_are_judged() -> None:
    """Else their peers take this host for dead."""
    end = FakeEndpoint()
    paths = [path(f"tank/{number}") for number in range(50)]
    end.filesystems = [Filesystem(path=each) for each in paths]
    listed = [version(f"@{number},{number}") for number in range(1, 201)]
    end.versions = dict.fromkeys(paths, listed)
    end.cursor = 200
    turns = 0
    async with trio.open_nursery() as nursery:

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += end.asked.count(paths[-1]) == 2  # listed, and the cursor asked for

        nursery.start_soon(other)
        planner = Planner(sender=end, receiver=FakeEndpoint(), clock=SteppingClock())
        planned = await planner.plan(policy(LAST_1))
        nursery.cancel_scope.cancel()
    assert all(len(each.going) == 199 for each in planned.filesystems)
    assert turns >= len(paths) * len(listed) // 1000


async def test_a_plan_changes_nothing_and_is_what_is_done() -> None:
    pair = await replicated("1", "2", "3")
    planner = Planner(sender=pair.cable, receiver=pair.receiver, clock=pair.clock)
    planned = await planner.plan(SENDER)
    assert [v.name for each in planned.filesystems for v in each.going] == ["1", "2"]
    assert await left(pair) == ("1 2 3", "1 2 3")
