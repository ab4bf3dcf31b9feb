"""`zfs send` and `zfs recv` as resources: a child and its byte stream as one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from zrepl_trio.bulk import PIPE_BYTES
from zrepl_trio.process import Child, Processes, Redirect
from zrepl_trio.zfs.failures import failure, missing_program
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import ZfsReceive, ZfsSend

__all__ = ["RECEIVE_GRACE_S", "SEND_GRACE_S", "open_receive", "open_send"]

SEND_GRACE_S = 1.0
"""How long a `zfs send` may take to notice that nobody reads any more."""

RECEIVE_GRACE_S = 10.0
"""How long a `zfs recv` may take to save its state once its stdin is closed: twice the 5 s that a
transaction group stays open (`zfs_txg_timeout`)."""


class _Send:
    def __init__(self, child: Child, argv: Sequence[str], dataset: DatasetPath) -> None:
        self._child = child
        self._argv = argv
        self._dataset = dataset

    @property
    def reader(self) -> trio.abc.ReceiveStream:
        return self._child.stdout

    async def finish(self) -> None:
        await _check(self._child, self._argv, self._dataset)


class _Receive:
    def __init__(self, child: Child, argv: Sequence[str], dataset: DatasetPath) -> None:
        self._child = child
        self._argv = argv
        self._dataset = dataset

    @property
    def writer(self) -> trio.abc.SendStream:
        return self._child.stdin

    async def finish(self) -> None:
        await self._child.stdin.aclose()
        await _check(self._child, self._argv, self._dataset)


async def _check(child: Child, argv: Sequence[str], dataset: DatasetPath) -> None:
    status = await child.wait()
    if status != 0:
        said = child.stderr_tail.decode("utf-8", "replace")
        raise failure(argv, status, said, dataset=dataset)


async def _start(
    stack: AsyncExitStack,
    processes: Processes,
    argv: Sequence[str],
    dataset: DatasetPath,
    *,
    receiving: bool,
) -> Child:
    opened = processes.open(
        argv,
        stdin=Redirect.PIPE if receiving else Redirect.NULL,
        stdout=Redirect.NULL if receiving else Redirect.PIPE,
        dataset=dataset,
        grace_s=RECEIVE_GRACE_S if receiving else SEND_GRACE_S,
        pipe_size=PIPE_BYTES,
    )
    try:
        return await stack.enter_async_context(opened)
    except OSError as error:
        raise missing_program(argv, error, dataset=dataset) from error


@asynccontextmanager
async def open_send(
    processes: Processes, argv: Sequence[str], dataset: DatasetPath
) -> AsyncIterator[ZfsSend]:
    """A running `zfs send`. Leaving the block closes the pipe, which ends it, then kills it."""
    async with AsyncExitStack() as stack:
        child = await _start(stack, processes, argv, dataset, receiving=False)
        yield _Send(child, argv, dataset)


@asynccontextmanager
async def open_receive(
    processes: Processes, argv: Sequence[str], dataset: DatasetPath
) -> AsyncIterator[ZfsReceive]:
    """A running `zfs recv`. Leaving the block without `finish` closes its stdin, so that it saves
    what it has, and kills it only when that takes longer than `RECEIVE_GRACE_S`."""
    async with AsyncExitStack() as stack:
        child = await _start(stack, processes, argv, dataset, receiving=True)
        yield _Receive(child, argv, dataset)
