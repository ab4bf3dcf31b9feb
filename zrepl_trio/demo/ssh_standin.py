"""A stand-in for `ssh` and sshd where none is installed: runs the forced command right here.

It takes ssh's arguments as zrepl gives them, ignores where they would lead, and runs the command
that stands in IDENTITY_FILE.forced. As with sshd, the command gets one socketpair for stdin and
stdout, so that passing its fds, half-close and exit statuses are real. It encrypts and checks
nothing. Standard library only: it runs by a bare interpreter, with an empty environment.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

CHUNK_BYTES = 256 * 1024


def main(argv: list[str]) -> int:
    """Relay between our stdin and stdout and the forced command; its exit status."""
    try:
        with open(argv[argv.index("-i") + 1] + ".forced") as file:
            command = file.read().strip()
    except (OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"ssh stand-in: there is no forced command for this key: {error}\n")
        return 255
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()
    with subprocess.Popen(["/bin/sh", "-c", command], stdin=fd, stdout=fd) as child:
        theirs.close()
        threading.Thread(target=_up, args=(ours,), daemon=True).start()
        down = threading.Thread(target=_down, args=(ours,), daemon=True)
        down.start()
        status = child.wait()
        # As sshd: what it still has to say is read first.
        down.join()
    # By the short way: the other thread may sit in a read that nothing ends.
    os._exit(status if status >= 0 else 255)


def _up(sock: socket.socket) -> None:
    try:
        while data := os.read(0, CHUNK_BYTES):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the command is gone


def _down(sock: socket.socket) -> None:
    try:
        while data := sock.recv(CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    except OSError:
        sock.shutdown(socket.SHUT_RDWR)  # our reader is gone: the command is to know
    os.close(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
