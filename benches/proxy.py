"""`zrepl-trio stdinserver` from spawn to the arrival of its fds, against a bare interpreter.

It is spawned for each data request, so its start is a latency of every step.
"""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import tempfile
import time

from benches.daemons import installed_command
from benches.measure import Figure, in_turn

ROUNDS = 40
BAR = 2.5


def _bare() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.perf_counter() - start


def _until_fds(listener: socket.socket, sockdir: str) -> float:
    start = time.perf_counter()
    with subprocess.Popen(
        [installed_command(), "stdinserver", "--sockdir", sockdir, "bench"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        connection, _ = listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(8))
            elapsed = time.perf_counter() - start
            fds = array.array("i", ancillary[0][2])
            for fd in fds:
                os.close(fd)
            connection.sendall(b"\0")
        if child.wait() != 0 or len(fds) != 2:
            raise RuntimeError("stdinserver did not pass its two fds and end with 0")
    return elapsed


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as sockdir, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{sockdir}/bench")
        listener.listen()
        pairs = in_turn(ROUNDS, lambda: _until_fds(listener, sockdir), _bare)
    milliseconds = sorted(fds for fds, _ in pairs)[len(pairs) // 2] * 1000
    return [
        Figure(
            "stdinserver, spawn to fds / python3 -I -S -c pass",
            tuple(fds / bare for fds, bare in pairs),
            BAR,
            at_most=True,
            note=f"{milliseconds:.1f} ms",
        )
    ]
