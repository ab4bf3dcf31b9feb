"""A pool that zfs suspends and takes up again, at a test's word.

Its one device is a sparse file in a file system of memory. Once that is full, a write fails, and
zfs suspends the pool: whatever waits for it then sleeps in the kernel and takes no signal, SIGKILL
included. Room again and `zpool clear` wake it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.platform.conftest import run, text

POOL = "ztsick"
INSIDE = "ztinside"
_ROOM = "96m"
_TXG_TIMEOUT = Path("/sys/module/zfs/parameters/zfs_txg_timeout")


@dataclass(frozen=True)
class SickPool:
    """The pool `ztsick`, mounted at `mountpoint`."""

    mountpoint: Path
    device: Path

    @property
    def _filler(self) -> Path:
        return self.device.with_name("filler")

    def fill(self) -> None:
        """From now on no write of more than a little succeeds."""
        run("zpool", "sync")
        free = os.statvfs(self.device.parent)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)

    def mend(self) -> None:
        """Make room and have zfs go on."""
        self._filler.unlink(missing_ok=True)
        if self.is_suspended:
            run("zpool", "clear", POOL)

    @property
    def is_suspended(self) -> bool:
        return text("zpool", "list", "-H", "-o", "health", POOL) == "SUSPENDED"

    def hung(self) -> list[str]:
        """The zfs commands that it has hanging in the kernel: the words of each."""
        return asleep() if self.is_suspended else []


@contextmanager
def sick_pool(directory: Path) -> Iterator[SickPool]:
    """The pool, mended and destroyed at the end. It is written to only when something has it
    written: its own timer would suspend it before the command that a test means to hang."""
    memory, mountpoint = directory / "memory", directory / "mnt"
    memory.mkdir()
    timeout = _TXG_TIMEOUT.read_text()
    run("mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "zt-sick", str(memory))
    pool = SickPool(mountpoint, memory / "device")
    try:
        with pool.device.open("wb") as file:
            file.truncate(2**30)
        run("zpool", "create", "-m", str(mountpoint), POOL, str(pool.device))
        try:
            _TXG_TIMEOUT.write_text("600\n")
            yield pool
        finally:
            _TXG_TIMEOUT.write_text(timeout)
            pool.mend()
            run("zpool", "destroy", "-f", POOL)
    finally:
        run("umount", "-l", str(memory))


@contextmanager
def pool_inside(pool: SickPool) -> Iterator[None]:
    """The pool `ztinside` on a file in the other: once that is suspended, it hangs without an error,
    and without being suspended itself. Whatever writes to it hangs too, however often it is tried."""
    file = pool.mountpoint / "inside"
    with file.open("wb") as device:
        device.truncate(2**28)
    run("zpool", "create", "-m", str(pool.mountpoint.with_name("inside")), INSIDE, str(file))
    try:
        yield
    finally:
        pool.mend()
        run("zpool", "destroy", "-f", INSIDE)


def asleep() -> list[str]:
    """The zfs commands that hang in the kernel: what each was told to do."""
    return [
        " ".join(process.info["cmdline"][1:])
        for process in psutil.process_iter(["name", "cmdline", "status"])
        if process.info["name"] == "zfs" and process.info["status"] == psutil.STATUS_DISK_SLEEP
    ]
