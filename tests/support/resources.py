"""What a test must not leave behind, and how to cancel an operation at every point of its life."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import trio

__all__ = [
    "cancel_at_each_step",
    "cancelled_after",
    "children",
    "nothing_left_behind",
    "open_fds",
    "until",
]


def open_fds() -> dict[int, str]:
    """Our open fds and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def children() -> set[int]:
    """The pids of our children, zombies included."""
    try:
        found = set()
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                found |= {int(pid) for pid in file.read().split()}
    except FileNotFoundError:  # a thread just ended, or no CONFIG_PROC_CHILDREN: slower
        return {child.pid for child in psutil.Process().children()}
    return found


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Asserts that the block leaves no child, no zombie and no fd that it didn't find."""
    fds_before = open_fds().keys()
    children_before = children()
    yield
    assert children() - children_before == set()
    if not open_fds().keys() <= fds_before:
        gc.collect()  # trio closes the pidfd of an ended child with its Process object
    assert {fd: what for fd, what in open_fds().items() if fd not in fds_before} == {}


async def until(condition: Callable[[], bool], *, within_s: float = 10) -> None:
    """Waits for what only the system knows (a process's end, say) and fails if it doesn't come."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.005)


class _CancelAtStep(trio.abc.Instrument):
    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._left = step
        self.fired = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self._left -= 1
        if self._left == 0:
            self.fired = True
            self._scope.cancel()


async def cancel_at_each_step(
    operation: Callable[[], Awaitable[object]], *, every: int = 1, at_most: int = 400
) -> int:
    """Runs `operation` again and again, cancelled after its 1st, 2nd, 3rd... step of any task,
    until it ends uncancelled; after each run nothing may be left. Returns the runs made."""
    for run, step in enumerate(range(1, at_most, every), start=1):
        with nothing_left_behind():
            fired = await cancelled_after(step, operation)
        if not fired:
            return run
    raise AssertionError(f"not done within {at_most} steps")


async def cancelled_after(step: int, operation: Callable[[], Awaitable[object]]) -> bool:
    """Runs `operation` and cancels it after that many steps of any task; whether it lasted so long."""
    scope = trio.CancelScope()
    instrument = _CancelAtStep(scope, step)
    trio.lowlevel.add_instrument(instrument)
    try:
        with scope:
            await operation()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.fired
