"""A program as a hook: run without arguments and shell, told by its environment what it is about."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import structlog
import trio

from zrepl_trio.config.environment import DEFAULT_TUNING
from zrepl_trio.process import Child, Processes, Redirect
from zrepl_trio.snapshots.hook_output import HookOutput, last_lines, most_lines
from zrepl_trio.snapshots.hooks import Edge, HookFailed, shown
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["CommandHook", "hook_environment"]

log = structlog.get_logger()

_READ_BYTES = 64 * 1024
_KILL_S = 5.0
_LAST_WORDS_S = 1.0


def hook_environment(
    edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str, timeout_s: float
) -> dict[str, str]:
    """zrepl's variables; several filesystems, which zrepl never has, in as many lines."""
    return {
        "ZREPL_HOOKTYPE": edge.value,
        "ZREPL_FS": "\n".join(filesystems),
        "ZREPL_SNAPNAME": snapshot,
        "ZREPL_DRYRUN": "",
        "ZREPL_TIMEOUT": str(int(timeout_s)),
    }


class CommandHook:
    """Runs `path`, which has `timeout_s` for each edge; then it is killed, with all it started that is
    still in its process group. Its environment is ours (`environ`) and zrepl's variables. Of an edge's
    output `most_logged_bytes` are logged, and a number of lines that goes with them; what comes after is
    read and dropped, so that it never blocks the program."""

    def __init__(
        self,
        processes: Processes,
        *,
        path: str,
        timeout_s: float,
        filesystems: FilesystemFilter,
        err_is_fatal: bool,
        most_logged_bytes: int = DEFAULT_TUNING.hook_log_bytes,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> None:
        self._processes = processes
        self._path = path
        self._timeout_s = timeout_s
        self.filesystems = filesystems
        self.err_is_fatal = err_is_fatal
        self._most_logged_bytes = most_logged_bytes
        self._environ = environ

    @property
    def name(self) -> str:
        return self._path

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        """See `Hook`."""
        told = hook_environment(edge, filesystems, snapshot, self._timeout_s)
        logger = log.bind(hook=self._path, edge=edge.value, filesystem=shown(filesystems))
        async with AsyncExitStack() as stack:
            try:
                child = await stack.enter_async_context(
                    self._processes.open(
                        [self._path],
                        stdout=Redirect.PIPE,
                        env={**self._environ(), **told},
                        grace_s=0.0,
                        kill_s=_KILL_S,
                    )
                )
            except OSError as error:
                raise HookFailed(f"{self._path} cannot be run: {error.strerror}") from error
            status: int | None = None
            with trio.move_on_after(self._timeout_s):
                status = await _until_end(child, logger, self._most_logged_bytes)
            said = child.stderr_tail.decode("utf-8", "replace").strip()
            for line in last_lines(said):
                logger.warning("hook output", stderr=line)
        if status is None:
            raise HookFailed(
                f"{self._path} did not end within {self._timeout_s:g} s and was killed"
            )
        if status != 0:
            last = f": {said.splitlines()[-1][:200]}" if said else ""
            raise HookFailed(f"{self._path} {_how(status)}{last}")


async def _until_end(
    child: Child, logger: structlog.typing.FilteringBoundLogger, most_logged_bytes: int
) -> int:
    """Its status. What it left running may hold its output open: that is not waited for."""
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def read() -> None:
            await _log_output(child, logger, most_logged_bytes)
            ended.set()

        nursery.start_soon(read)
        status = await child.wait()
        with trio.move_on_after(_LAST_WORDS_S):
            await ended.wait()
        nursery.cancel_scope.cancel()
    return status


async def _log_output(
    child: Child, logger: structlog.typing.FilteringBoundLogger, most_logged_bytes: int
) -> None:
    """Its stdout line by line, to its end; as much as there was, when that is not waited for."""
    lines = most_lines(most_logged_bytes)
    output = HookOutput(most_bytes=most_logged_bytes, most_lines=lines)
    try:
        while chunk := await child.stdout.receive_some(_READ_BYTES):
            output.add(bytes(chunk))
            while (line := output.next()) is not None:
                logger.info("hook output", stdout=line)
                await trio.lowlevel.checkpoint()  # other jobs' turn
    finally:
        for line in output.end():
            logger.info("hook output", stdout=line)
        if output.dropped:
            logger.warning(
                "more output than is logged", most_bytes=most_logged_bytes, most_lines=lines
            )


def _how(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
