"""Child processes for real: pipes, a bounded stderr, a graceful end, and a reaper for the unkillable.

The one module that goes below `trio.run_process`: that waits without end for a child, and a `zfs`
caught in the kernel ignores even SIGKILL. Children lead sessions of their own: a Ctrl-C meant for
the daemon must not kill a `zfs recv` before its stdin is closed, which lets it keep resumable state.
"""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress

import structlog
import trio

from zrepl_trio.bulk import set_pipe_size
from zrepl_trio.process import Child, Completed, Processes, Redirect, StuckChild, Usage

__all__ = [
    "STDERR_TAIL_BYTES",
    "RingBuffer",
    "StderrTail",
    "argument_bytes",
    "open_processes",
]

log = structlog.get_logger()

STDERR_TAIL_BYTES = 32 * 1024
"""How much of a child's stderr is kept; zrepl keeps as much (wire reference 1.5)."""

_READ_BYTES = 64 * 1024
_LAST_WORDS_BYTES = 1024 * 1024
"""How much a pipe can hold (the usual pipe-max-size), so all that a dead child left in it."""

_RUN_KILL_S = 5.0

_LEAST_ARGUMENT_BYTES = 128 * 1024
"""What every system takes (Linux: `ARG_MAX`)."""
_MOST_ARGUMENT_BYTES = 6 * 1024 * 1024
"""What Linux takes at most (3/4 of `_STK_LIM`), also where the stack's limit promises more."""
_ARGUMENT_MARGIN_BYTES = 16 * 1024
"""For the program's path, its first words, and what the system itself puts beside them."""

_LOGGED_CHARACTERS = 2_000
"""Of a command, in the log: some have thousands of snapshots' names."""


class RingBuffer:
    """The last `capacity` bytes of what was added."""

    def __init__(self, capacity: int = STDERR_TAIL_BYTES) -> None:
        self._capacity = capacity
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data[-self._capacity :]
        del self._kept[: -self._capacity]

    def __bytes__(self) -> bytes:
        return bytes(self._kept)


def argument_bytes() -> int:
    """How many bytes of arguments a child with our environment takes, each with its end and its pointer."""
    try:
        limit = os.sysconf("SC_ARG_MAX")
    except (OSError, ValueError):
        limit = -1
    if limit <= 0:  # the system sets none that it could tell
        limit = _LEAST_ARGUMENT_BYTES
    environment = sum(len(os.fsencode(f"{key}={of_it}")) + 9 for key, of_it in os.environ.items())
    room = min(limit, _MOST_ARGUMENT_BYTES) - environment - _ARGUMENT_MARGIN_BYTES
    return max(room, _LEAST_ARGUMENT_BYTES - _ARGUMENT_MARGIN_BYTES)


@asynccontextmanager
async def open_processes(
    *, kill_group: Callable[[int, int], None] = os.killpg
) -> AsyncIterator[Processes]:
    """The `Processes` of a daemon or a command.

    Leaving the block doesn't wait for children listed as stuck: only the system can end them.
    `kill_group(pgid, signal)` exists for tests, which can't make an unkillable process.
    """
    async with trio.open_nursery() as nursery:
        try:
            yield _Processes(nursery, kill_group)
        finally:
            nursery.cancel_scope.cancel()


class StderrTail:
    """Reads the read end of a child's stderr pipe and keeps its last words; owns the fd."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._kept = RingBuffer()
        self._reading = trio.CancelScope(shield=True)

    def __bytes__(self) -> bytes:
        return bytes(self._kept)

    async def read(self) -> None:
        """Read as it comes, so that a talkative child never blocks on it; until `close`, also
        when all around is cancelled."""
        with self._reading:
            while self._fd != -1:
                await trio.lowlevel.wait_readable(self._fd)
                self._read_once()

    def drain(self) -> None:
        """Keep what is in the pipe now: all that an ended child said. Doesn't wait for EOF, as
        a grandchild may hold the pipe."""
        total = 0
        while total < _LAST_WORDS_BYTES and (count := self._read_once()):
            total += count

    def _read_once(self) -> int:
        """Keep what is there; the count, 0 when there is nothing now. Closes at EOF."""
        if self._fd == -1:
            return 0
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        self._kept.add(data)
        if not data:
            self.close()
        return len(data)

    def close(self) -> None:
        """Stop reading and close the fd."""
        self._reading.cancel()
        if self._fd != -1:
            trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
            self._fd = -1


class _Child:
    """A running child; its fds and its stderr reader end with `_Processes.open`."""

    def __init__(
        self,
        process: trio.Process,
        stdin: trio.lowlevel.FdStream | None,
        stdout: trio.lowlevel.FdStream | None,
        stderr: StderrTail,
    ) -> None:
        self.stderr = stderr
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self._status: int | None = None
        self._usage: Usage | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> trio.lowlevel.FdStream:
        assert self._stdin is not None, "opened without stdin=Redirect.PIPE"
        return self._stdin

    @property
    def stdout(self) -> trio.lowlevel.FdStream:
        assert self._stdout is not None, "opened without stdout=Redirect.PIPE"
        return self._stdout

    @property
    def stderr_tail(self) -> bytes:
        return bytes(self.stderr)

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def poll(self) -> int | None:
        """Its exit status, None while it runs. Whoever waits reaps by this alone.

        The usage is what reaping it adds to that of all children: no other task reaps meanwhile,
        and a thread at most what failed to start, whose time is nothing.
        """
        if self._status is None:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            self._status = self._process.poll()
            if self._status is not None:
                self._usage = _added(before, resource.getrusage(resource.RUSAGE_CHILDREN))
        return self._status

    async def wait(self) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        while (status := self.poll()) is None:
            try:
                # one for each wait: several tasks may, and none may wait for an fd of another
                fd = os.pidfd_open(self.pid)
            except (AttributeError, OSError):
                # an old kernel, a sandbox, no fd left: trio waits in its own ways, and reaps
                self._status = await self._process.wait()
            else:
                await _readable_once(fd)
        self.stderr.drain()
        return status

    async def close_pipes(self) -> None:
        for stream in (self._stdin, self._stdout):
            if stream is not None:
                await stream.aclose()


class _Processes:
    def __init__(self, nursery: trio.Nursery, kill_group: Callable[[int, int], None]) -> None:
        self._nursery = nursery
        self._kill_group = kill_group
        self._stuck: dict[int, StuckChild] = {}

    @property
    def stuck(self) -> tuple[StuckChild, ...]:
        return tuple(self._stuck.values())

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        stdin: bytes = b"",
    ) -> Completed:
        # No grace before SIGTERM: this child was promised nothing but its output being read.
        async with self._opened(
            argv,
            stdin=Redirect.PIPE if stdin else Redirect.NULL,
            stdout=Redirect.PIPE,
            env=env,
            dataset=dataset,
            waits=(0.0, 1.0, _RUN_KILL_S),
            pipe_size=None,
        ) as child:
            if stdin:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_feed, child.stdin, stdin)
                    output = await _read_all(child.stdout)
            else:
                output = await _read_all(child.stdout)
            status = await child.wait()
            return Completed(
                argv=tuple(argv),
                status=status,
                stdout=output,
                stderr=child.stderr_tail,
                usage=child.usage,
            )

    def open(
        self,
        argv: Sequence[str],
        *,
        stdin: Redirect = Redirect.NULL,
        stdout: Redirect = Redirect.NULL,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        grace_s: float = 1.0,
        kill_s: float = 5.0,
        pipe_size: int | None = None,
    ) -> AbstractAsyncContextManager[Child]:
        return self._opened(
            argv,
            stdin=stdin,
            stdout=stdout,
            env=env,
            dataset=dataset,
            waits=(grace_s, grace_s, kill_s),
            pipe_size=pipe_size,
        )

    @asynccontextmanager
    async def _opened(
        self,
        argv: Sequence[str],
        *,
        stdin: Redirect,
        stdout: Redirect,
        env: Mapping[str, str] | None,
        dataset: str,
        waits: tuple[float, float, float],
        pipe_size: int | None,
    ) -> AsyncIterator[_Child]:
        since_s = trio.current_time()
        child = await _spawn(argv, stdin, stdout, env, pipe_size)
        # Not in a nursery of the block: that would wrap the body's errors in groups. Shielded
        # within, so that it lives exactly as long as the block, also when the daemon stops.
        self._nursery.start_soon(child.stderr.read, name=f"stderr of {argv[0]}")
        try:
            yield child
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await self._end(child, tuple(argv), dataset, waits)
                finally:
                    child.stderr.close()
                    _log_end(argv, child.poll(), trio.current_time() - since_s)

    async def _end(
        self, child: _Child, argv: tuple[str, ...], dataset: str, waits: tuple[float, float, float]
    ) -> None:
        await child.close_pipes()
        for number, wait_s in zip((None, signal.SIGTERM, signal.SIGKILL), waits, strict=True):
            if number is not None:
                # Gone already, or not ours to signal (sudo): then the wait below decides.
                with suppress(ProcessLookupError, PermissionError):
                    self._kill_group(child.pid, number)
            with trio.move_on_after(wait_s):
                await child.wait()
            if child.poll() is not None:
                break
        else:
            self._stuck[child.pid] = StuckChild(pid=child.pid, argv=argv, dataset=dataset)
            self._nursery.start_soon(self._reap, child, name=f"reaper of {argv[0]}")
        child.stderr.drain()

    async def _reap(self, child: _Child) -> None:
        await child.wait()
        del self._stuck[child.pid]


def _log_end(argv: Sequence[str], status: int | None, seconds: float) -> None:
    """For whoever wants to see what is done: every command that we run passes here."""
    shown = shlex.join(argv)
    if len(shown) > _LOGGED_CHARACTERS:
        shown = f"{shown[:_LOGGED_CHARACTERS]}…"
    if status is None:
        log.debug("command ignores SIGKILL", command=shown, seconds=round(seconds, 3))
    else:
        log.debug("command ended", command=shown, status=status, seconds=round(seconds, 3))


async def _spawn(
    argv: Sequence[str],
    stdin: Redirect,
    stdout: Redirect,
    env: Mapping[str, str] | None,
    pipe_size: int | None,
) -> _Child:
    with ExitStack() as theirs, ExitStack() as ours:

        def pipe(*, we_write: bool, size: int | None) -> tuple[int, int]:
            """Our end, non-blocking, and the child's, which stays blocking."""
            read_fd, write_fd = os.pipe()
            our_fd, their_fd = (write_fd, read_fd) if we_write else (read_fd, write_fd)
            ours.callback(os.close, our_fd)
            theirs.callback(os.close, their_fd)
            os.set_blocking(our_fd, False)
            if size is not None:
                set_pipe_size(our_fd, size)
            return our_fd, their_fd

        in_fd = out_fd = None
        child_in: int = subprocess.DEVNULL
        child_out: int = subprocess.DEVNULL
        if stdin is Redirect.PIPE:
            in_fd, child_in = pipe(we_write=True, size=pipe_size)
        if stdout is Redirect.PIPE:
            out_fd, child_out = pipe(we_write=False, size=pipe_size)
        err_fd, child_err = pipe(we_write=False, size=None)
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=child_in,
            stdout=child_out,
            stderr=child_err,
            env={**os.environ, "LC_ALL": "C"} if env is None else dict(env),
            start_new_session=True,
        )
        ours.pop_all()
    # No checkpoint from here to the caller's `try`: a cancel can't fall between.
    return _Child(
        process,
        None if in_fd is None else trio.lowlevel.FdStream(in_fd),
        None if out_fd is None else trio.lowlevel.FdStream(out_fd),
        StderrTail(err_fd),
    )


def _added(before: resource.struct_rusage, after: resource.struct_rusage) -> Usage | None:
    """The usage of one child that was reaped in between; None if someone else had done it."""
    user_s = after.ru_utime - before.ru_utime
    system_s = after.ru_stime - before.ru_stime
    if user_s == system_s == 0:
        return None
    return Usage(user_s=user_s, system_s=system_s)


async def _readable_once(fd: int) -> None:
    """Wait for it and close it."""
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)


async def _read_all(stream: trio.abc.ReceiveStream) -> bytes:
    chunks = []
    while chunk := await stream.receive_some(_READ_BYTES):
        chunks.append(chunk)
    return b"".join(chunks)


async def _feed(stream: trio.abc.SendStream, data: bytes) -> None:
    """Write all and close; a child that doesn't want it is no error."""
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)
    await stream.aclose()
