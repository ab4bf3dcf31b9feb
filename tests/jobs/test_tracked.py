from __future__ import annotations

import sys

import pytest
import trio

from tests.jobs.clocks import FollowingClock
from zrepl_trio.children import open_processes
from zrepl_trio.jobs.tracked import TrackedProcesses
from zrepl_trio.process import Redirect


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
