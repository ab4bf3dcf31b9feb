"""A program as a hook: run without arguments and shell, told by its environment what it is about."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager

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
_MOST_NAMES_BYTES = 100_000
"""Of names in `ZREPL_FS`: Linux takes 128 KiB (MAX_ARG_STRLEN) for one variable."""


def hook_environment(
    edge: Edge,
    filesystems: Sequence[DatasetPath],
    snapshot: str,
    timeout_s: float,
    list_file: str = "",
) -> dict[str, str]:
    """zrepl's variables; several filesystems, which zrepl never has, in as many lines, unless they are
    too many for a variable. `list_file` has them all, where there is such a file."""
    told = {
        "ZREPL_HOOKTYPE": edge.value,
        "ZREPL_SNAPNAME": snapshot,
        "ZREPL_DRYRUN": "",
        "ZREPL_TIMEOUT": str(int(timeout_s)),
    }
    if not _too_many(filesystems):
        told["ZREPL_FS"] = "\n".join(filesystems)
    if list_file:
        told["ZREPL_FS_FILE"] = list_file
    return told


def _too_many(filesystems: Sequence[DatasetPath]) -> bool:
    return sum(len(each) + 1 for each in filesystems) > _MOST_NAMES_BYTES


class CommandHook:
    """Runs `path`, which has `timeout_s` for each edge; then it is killed, with all it started that is
    still in its process group. Its environment is ours (`environ`) and zrepl's variables; with `lists` also
    the name of a file with the filesystems, which is there while it runs. Of an edge's
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
        lists: bool = False,
        most_logged_bytes: int = DEFAULT_TUNING.hook_log_bytes,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> None:
        self._processes = processes
        self._path = path
        self._timeout_s = timeout_s
        self.filesystems = filesystems
        self.err_is_fatal = err_is_fatal
        self._lists = lists
        self._most_logged_bytes = most_logged_bytes
        self._environ = environ

    @property
    def name(self) -> str:
        return self._path

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        """See `Hook`."""
        logger = log.bind(hook=self._path, edge=edge.value, filesystem=shown(filesystems))
        async with AsyncExitStack() as stack:
            file = ""
            if self._lists:
                try:
                    file = stack.enter_context(_listed(filesystems))
                except OSError as error:
                    lacks = f"the file that lists the filesystems for it cannot be written: {error}"
                    if _too_many(filesystems):
                        raise HookFailed(f"{self._path} cannot be run: {lacks}") from error
                    logger.warning("hook without ZREPL_FS_FILE", err=lacks)
            told = hook_environment(edge, filesystems, snapshot, self._timeout_s, file)
            ours = self._environ()
            if "ZREPL_FS" not in told:
                ours = {name: value for name, value in ours.items() if name != "ZREPL_FS"}
            try:
                child = await stack.enter_async_context(
                    self._processes.open(
                        [self._path],
                        stdout=Redirect.PIPE,
                        env={**ours, **told},
                        grace_s=0.0,
                        kill_s=_KILL_S,
                    )
                )
            except OSError as error:
                why = error.strerror
                if error.errno == errno.E2BIG:
                    size = sum(len(name) + len(value) + 2 for name, value in ours.items())
                    why = f"its environment is too long; {size} bytes of it are the daemon's own"
                raise HookFailed(f"{self._path} cannot be run: {why}") from error
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


@contextmanager
def _listed(filesystems: Sequence[DatasetPath]) -> Iterator[str]:
    """A file that we alone may read, with a name in each line; gone at the end of the block."""
    with tempfile.TemporaryDirectory(
        prefix="zrepl-trio-hook-", ignore_cleanup_errors=True
    ) as directory:
        path = os.path.join(directory, "filesystems")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{each}\n" for each in filesystems)
        yield path


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
