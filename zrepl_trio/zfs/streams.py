"""`zfs send` and `zfs recv` as resources: a child and its byte stream as one thing.

One that stalls ends in an error that names it: the ends of its pipe have a limit for each wait. Only
a wait for that very child counts, not the time in which the link or the other side is slow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import trio

from zrepl_trio.bulk import PIPE_BYTES, raw_fd, wait_readable
from zrepl_trio.errors import SourceFailed, ZfsError
from zrepl_trio.process import Child, Processes, Redirect
from zrepl_trio.zfs.failures import failure, idle_too_long, missing_program
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.port import ZfsReceive, ZfsSend

__all__ = ["RECEIVE_GRACE_S", "SEND_GRACE_S", "open_receive", "open_send"]

SEND_GRACE_S = 1.0
"""How long a `zfs send` may take to notice that nobody reads any more."""

RECEIVE_GRACE_S = 10.0
"""How long a `zfs recv` may take to save its state once its stdin is closed: twice the 5 s that a
transaction group stays open (`zfs_txg_timeout`)."""


class _Stalls:
    """One child's limit, and what it failed by once it was over."""

    def __init__(self, limit_s: float, error: Callable[[], ZfsError]) -> None:
        self._limit_s = limit_s
        self._error = error
        self.error: ZfsError | None = None

    @contextmanager
    def limit(self) -> Iterator[None]:
        """For a wait for the child: ZfsError when it takes too long."""
        try:
            with trio.fail_after(self._limit_s):
                yield
        except trio.TooSlowError:
            self.error = self._error()
            raise self.error from None


class _Reader(trio.abc.ReceiveStream):
    """The child's stdout; SourceFailed when nothing comes."""

    def __init__(self, pipe: trio.abc.ReceiveStream, stalls: _Stalls) -> None:
        self._pipe = pipe
        self._stalls = stalls

    def fileno(self) -> int:
        return _fileno(self._pipe)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        with self._limit():
            return await self._pipe.receive_some(max_bytes)

    async def wait_readable(self) -> None:
        with self._limit():
            await wait_readable(self._pipe)

    @contextmanager
    def _limit(self) -> Iterator[None]:
        try:
            with self._stalls.limit():
                yield
        except ZfsError as error:
            raise SourceFailed(str(error)) from error

    async def aclose(self) -> None:
        await self._pipe.aclose()


class _Writer(trio.abc.SendStream):
    """The child's stdin; ZfsError when it takes nothing."""

    def __init__(self, pipe: trio.abc.SendStream, stalls: _Stalls) -> None:
        self._pipe = pipe
        self._stalls = stalls

    def fileno(self) -> int:
        return _fileno(self._pipe)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._stalls.limit():
            await self._pipe.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        with self._stalls.limit():
            await self._pipe.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._pipe.aclose()


def _fileno(pipe: object) -> int:
    fd = raw_fd(pipe)
    return -1 if fd is None else fd


class _Stream:
    def __init__(
        self, child: Child, argv: Sequence[str], dataset: DatasetPath, limit_s: float
    ) -> None:
        self._child = child
        self._argv = argv
        self._dataset = dataset
        self._stalls = _Stalls(limit_s, self._stalled)
        self._limit_s = limit_s

    def _stalled(self) -> ZfsError:
        return idle_too_long(self._argv, self._limit_s, dataset=self._dataset)

    async def _check(self) -> None:
        if self._stalls.error is not None:
            raise self._stalls.error
        with self._stalls.limit():
            status = await self._child.wait()
        if status != 0:
            said = self._child.stderr_tail.decode("utf-8", "replace")
            raise failure(self._argv, status, said, dataset=self._dataset)


class _Send(_Stream):
    @property
    def reader(self) -> trio.abc.ReceiveStream:
        return _Reader(self._child.stdout, self._stalls)

    async def finish(self) -> None:
        await self._check()


class _Receive(_Stream):
    @property
    def writer(self) -> trio.abc.SendStream:
        return _Writer(self._child.stdin, self._stalls)

    async def finish(self) -> None:
        await self._child.stdin.aclose()
        await self._check()


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
    processes: Processes, argv: Sequence[str], dataset: DatasetPath, limit_s: float
) -> AsyncIterator[ZfsSend]:
    """A running `zfs send`, which may stall for `limit_s`. Leaving the block closes the pipe, which
    ends it, then kills it."""
    async with AsyncExitStack() as stack:
        child = await _start(stack, processes, argv, dataset, receiving=False)
        yield _Send(child, argv, dataset, limit_s)


@asynccontextmanager
async def open_receive(
    processes: Processes, argv: Sequence[str], dataset: DatasetPath, limit_s: float
) -> AsyncIterator[ZfsReceive]:
    """A running `zfs recv`, which may stall for `limit_s`. Leaving the block without `finish` closes
    its stdin, so that it saves what it has, and kills it only when that takes longer than
    `RECEIVE_GRACE_S`."""
    async with AsyncExitStack() as stack:
        child = await _start(stack, processes, argv, dataset, receiving=True)
        yield _Receive(child, argv, dataset, limit_s)
