from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from zrepl_trio.children import open_processes
from zrepl_trio.jobs.tracked import TrackedProcesses
from zrepl_trio.process import Redirect, Usage


async def test_what_runs_is_listed_and_only_as_long_as_it_runs() -> None:
    async with open_processes() as opened:
        processes = TrackedProcesses(opened, FollowingClock())
        argv = [sys.executable, "-c", "import sys; sys.stdin.read(); print('over')"]
        async with processes.open(argv, stdin=Redirect.PIPE, stdout=Redirect.PIPE) as child:
            assert [active.argv for active in processes.active] == [tuple(argv)]
            await child.stdin.aclose()
            assert await child.wait() == 0
        assert processes.active == ()
        done = await processes.run(["cat"], stdin=b"hello")
        assert done.stdout == b"hello"
        assert processes.active == ()
        assert processes.stuck == ()


async def test_a_child_that_cannot_start_or_is_cancelled_is_not_listed() -> None:
    async with open_processes() as opened:
        processes = TrackedProcesses(opened, FollowingClock())
        with pytest.raises(FileNotFoundError):
            await processes.run(["/no/such/program"])
        with trio.move_on_after(0.05):
            await processes.run(["sleep", "100"])
        assert processes.active == ()


async def test_the_end_of_each_child_is_told_with_its_usage() -> None:
    told: list[tuple[str, Usage | None]] = []

    def ended(argv: Sequence[str], seconds: float, usage: Usage | None) -> None:
        assert seconds >= 0
        told.append((argv[0], usage))

    async with open_processes() as opened:
        processes = TrackedProcesses(opened, FollowingClock(), ended=ended)
        done = await processes.run(["true"])
        async with processes.open(["cat"], stdin=Redirect.PIPE) as child:
            assert child.usage is None
        with pytest.raises(FileNotFoundError):
            await processes.run(["/no/such/program"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(processes.run, ["sleep", "100"])
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert None not in (done.usage, child.usage)
    assert told == [
        ("true", done.usage),
        ("cat", child.usage),
        ("/no/such/program", None),
        ("sleep", None),
    ]
