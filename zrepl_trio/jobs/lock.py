"""One process a job: an flock on `RUNTIMEDIR/locks/JOB`, held for as long as the job is ours.

The kernel drops the lock with its holder, however that dies, so there is no stale lock. The file
goes with the holder that ends well; whoever opened it meanwhile notices by its inode.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from zrepl_trio.errors import Refused

__all__ = ["FileHeld", "JobLocked", "held_file", "held_lock", "holder_text"]


class JobLocked(Refused):
    """Another process runs this job; `pid` is its id, 0 when unknown."""

    def __init__(self, job: str, pid: int, path: str) -> None:
        super().__init__(job, pid, path)
        self.job = job
        self.pid = pid
        self.path = path

    def __str__(self) -> str:
        return (
            f"job {self.job!r} is already run by {holder_text(self.pid)} (lock {self.path}); "
            f"ask it with `zrepl-trio signal wakeup {self.job}`, or stop it first"
        )


class FileHeld(Exception):
    """Another process holds the lock; `pid` is its id, 0 when unknown."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid


def holder_text(pid: int) -> str:
    """How to call that process in a sentence."""
    return f"process {pid}" if pid else "another process"


def _holder(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _is_at(path: str, fd: int) -> bool:
    """Whether the open file is the one that has that name."""
    return os.path.lexists(path) and os.path.samestat(os.fstat(fd), os.lstat(path))


def _locked_fd(path: str) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have unlinked the file between our open and our lock.
            if _is_at(path, fd):
                return fd
        except BlockingIOError:
            pid = _holder(fd)
            os.close(fd)
            raise FileHeld(pid) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


@contextmanager
def held_file(path: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`, made and removed by us, with our pid in it.

    Raises FileHeld when another holds it, OSError when the file cannot be made.
    """
    fd = _locked_fd(path)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        # Somebody may have cleaned the directory up, and another holder be there by now.
        with suppress(OSError):
            if _is_at(path, fd):
                os.unlink(path)
        os.close(fd)


@contextmanager
def held_lock(runtime_dir: str | None, job: str) -> Iterator[None]:
    """Hold the lock of `job` inside the block; JobLocked names the process that has it.

    `runtime_dir` exists and is private; None where there is no other process to lock out. `job` is a
    checked name (one component). Refused, with the path, when the lock file cannot be made.
    """
    if runtime_dir is None:
        yield
        return
    directory = os.path.join(runtime_dir, "locks")
    path = os.path.join(directory, job)
    with ExitStack() as stack:
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            stack.enter_context(held_file(path))
        except FileHeld as held:
            raise JobLocked(job, held.pid, path) from None
        except OSError as error:
            raise Refused(f"cannot lock job {job!r} at {path}: {error.strerror}") from error
        yield
