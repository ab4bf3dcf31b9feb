"""What a line under test does: it counts what is transferred, can be cut, and can stand still.

All by files in its directory, since it is its own process: it appends when each connection began, and
the number of its bytes, to `received` at its end. If `cut` holds a number, the first connection that has brought that many
bytes takes the file away, stands still for DRAIN_S, so that what it has brought gets through the buffers behind it,
which may hold it all, and ends. `stall`, likewise a number, makes it stop there instead,
until the file `stalled` is taken away. While a connection is open, a file `open.PID.THREAD` says so.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

DRAIN_S = 2.0


def _limit(path: Path) -> float:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return math.inf


def carry(directory: Path, source: int, target: int, cut: Callable[[], None]) -> None:
    """Move all of fd `source` into fd `target` as the files say; `cut` ends the line."""
    total, began = 0, time.monotonic_ns()
    is_open = directory / f"open.{os.getpid()}.{threading.get_native_id()}"
    is_open.touch()
    try:
        while chunk := os.read(source, 65536):
            total += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]
            if total >= _limit(directory / "stall"):
                (directory / "stall").rename(directory / "stalled")
                while (directory / "stalled").exists():
                    time.sleep(0.05)
            if total >= _limit(directory / "cut"):
                (directory / "cut").unlink()
                time.sleep(DRAIN_S)
                cut()
                return
    finally:
        with (directory / "received").open("a") as file:
            file.write(f"{began} {total}\n")
        is_open.unlink()


def is_open(directory: Path) -> bool:
    """Whether a connection that is not yet in `received` lives; one that was killed never gets there."""
    return any(_lives(int(path.name.split(".")[1])) for path in directory.glob("open.*"))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def received(directory: Path) -> list[int]:
    """What each ended connection brought, in bytes, in the order in which they began."""
    try:
        lines = (directory / "received").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [count for _, count in sorted(tuple(map(int, line.split())) for line in lines)]
