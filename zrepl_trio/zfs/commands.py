"""How a zfs command is run: to its end, or with its rows parsed as they come, and within limits.

What fails becomes an error by zfs's own words (`zfs.failures`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import trio

from zrepl_trio.errors import ZfsError
from zrepl_trio.process import Completed, Processes, Redirect
from zrepl_trio.zfs.blocked import check_not_blocked, check_not_running
from zrepl_trio.zfs.failures import (
    failure,
    idle_too_long,
    misses_only,
    missing_program,
    unexpected_output,
)
from zrepl_trio.zfs.limits import ZfsLimits
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.parse import Rows, Unexpected

__all__ = ["Commands", "text"]

T = TypeVar("T")

_READ_BYTES = 64 * 1024


class Commands:
    """Runs the program `zfs`, by `processes`; one that prints nothing for as long as `limits` allow
    is killed, and an error names it."""

    def __init__(self, processes: Processes, *, zfs: str, limits: ZfsLimits) -> None:
        self._processes = processes
        self._zfs = zfs
        self._limits = limits

    def program(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words with the program that is meant."""
        return (self._zfs, *words[1:])

    async def run(self, words: Sequence[str], *, dataset: str = "") -> Completed:
        """Run to the end, whatever the status."""
        check_not_blocked(self._processes, dataset)
        program = self.program(words)
        try:
            with trio.fail_after(self._limits.command_s):
                return await self._processes.run(program, dataset=dataset)
        except trio.TooSlowError:
            raise self._hangs(words, dataset) from None
        except OSError as error:
            raise missing_program(program, error, dataset=dataset) from error

    async def do(self, words: Sequence[str], dataset: DatasetPath) -> Completed:
        """Run to the end and raise what its failure means."""
        done = await self.run(words, dataset=dataset)
        if done.status != 0:
            raise failure(words, done.status, text(done.stderr), dataset=dataset)
        return done

    async def stream(
        self,
        words: Sequence[str],
        rows: Rows,
        result: Callable[[], T],
        *,
        dataset: str,
        optional: Collection[str] = (),
    ) -> T:
        """Run, parse the output as it comes, and give `result()` once it is whole; that `optional`
        datasets are missing is no failure."""
        program = self.program(words)
        check_not_running(self._processes, program)
        async with AsyncExitStack() as stack:
            opened = self._processes.open(program, stdout=Redirect.PIPE, dataset=dataset)
            try:
                child = await stack.enter_async_context(opened)
            except OSError as error:
                raise missing_program(program, error, dataset=dataset) from error
            try:
                with trio.fail_after(self._limits.command_s) as silence:
                    while chunk := await child.stdout.receive_some(_READ_BYTES):
                        rows.feed(chunk)
                        silence.deadline = trio.current_time() + self._limits.command_s
                    status = await child.wait()
                said = text(child.stderr_tail)
                if status != 0 and not misses_only(status, said, optional):
                    raise failure(words, status, said, dataset=dataset)
                rows.end()
                return result()
            except trio.TooSlowError:
                raise self._hangs(words, dataset) from None
            except Unexpected as problem:
                raise unexpected_output(words, str(problem), dataset=dataset) from problem

    def _hangs(self, words: Sequence[str], dataset: str) -> ZfsError:
        return idle_too_long(words, self._limits.command_s, dataset=dataset)


def text(output: bytes) -> str:
    """What zfs printed, readable whatever it is."""
    return output.decode("utf-8", "replace")
