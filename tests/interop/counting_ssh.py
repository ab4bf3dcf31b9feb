"""An `ssh_command` that runs ssh as a line under test (see `line`).

Run as a script: counting_ssh.py DIR from|to SSH ARG... It counts what comes from the peer, or what goes
to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.interop.line import carry


def relay(directory: Path, counted: str, argv: list[str]) -> int:
    from_peer = counted == "from"
    ssh = subprocess.Popen(
        argv,
        stdin=None if from_peer else subprocess.PIPE,
        stdout=subprocess.PIPE if from_peer else None,
    )
    # the daemon ends a connection by SIGTERM to us, meaning ssh
    signal.signal(signal.SIGTERM, lambda *_: ssh.terminate())
    try:
        if from_peer:
            assert ssh.stdout is not None
            carry(directory, ssh.stdout.fileno(), 1, ssh.kill)
        else:
            assert ssh.stdin is not None
            os.close(1)  # ssh has it, and its end is to be seen
            carry(directory, 0, ssh.stdin.fileno(), ssh.kill)
            ssh.stdin.close()
    except BrokenPipeError:
        ssh.terminate()
    return ssh.wait() & 0xFF


def script(directory: Path, counted: str, ssh: str) -> Path:
    """Write an executable for `ssh_command`; it needs nothing of the environment, which is empty."""
    path = directory / "counting-ssh"
    words = f"{sys.executable} -I {__file__} {directory} {counted} {ssh}"
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    sys.exit(relay(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
