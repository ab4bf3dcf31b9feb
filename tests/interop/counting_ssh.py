"""An `ssh_command` that runs ssh, counts what the peer sends, and can cut the line.

Run as a script: counting_ssh.py DIR SSH ARG... It appends the number of bytes that came, one line
a connection, to DIR/received. If DIR/cut holds a number, the first connection that has brought
that many bytes takes the file away and ends at once, ssh with it: a line cut in mid-transfer.
DIR/stall, likewise a number, makes it stop there instead, until the file DIR/stalled is taken away.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def _limit(path: Path) -> float:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return math.inf


def relay(directory: Path, argv: list[str]) -> int:
    ssh = subprocess.Popen(argv, stdout=subprocess.PIPE)
    # the daemon ends a connection by SIGTERM to us, meaning ssh
    signal.signal(signal.SIGTERM, lambda *_: ssh.terminate())
    assert ssh.stdout is not None
    source, total = ssh.stdout.fileno(), 0
    try:
        while chunk := os.read(source, 65536):
            total += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(1, view) :]
            if total >= _limit(directory / "stall"):
                (directory / "stall").rename(directory / "stalled")
                while (directory / "stalled").exists():
                    time.sleep(0.05)
            if total >= _limit(directory / "cut"):
                (directory / "cut").unlink()
                ssh.kill()
                break
    except BrokenPipeError:
        ssh.terminate()
    finally:
        with (directory / "received").open("a") as file:
            file.write(f"{total}\n")
    return ssh.wait() & 0xFF


def script(directory: Path, ssh: str) -> Path:
    """Write an executable for `ssh_command`; it needs nothing of the environment, which is empty."""
    path = directory / "counting-ssh"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I {__file__} {directory} {ssh} "$@"\n')
    path.chmod(0o755)
    return path


def received(directory: Path) -> list[int]:
    """What each ended connection brought, in bytes, in the order of their ends."""
    try:
        return [int(line) for line in (directory / "received").read_text().split()]
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    sys.exit(relay(Path(sys.argv[1]), sys.argv[2:]))
