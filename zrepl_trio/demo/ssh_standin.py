"""A stand-in for `ssh` and sshd where none is installed: runs the forced command right here.

It takes ssh's arguments as zrepl gives them, ignores where they would lead, and runs the command
that stands in IDENTITY_FILE.forced. As with sshd, the command gets one socketpair for stdin and
stdout, so that passing its fds, half-close and exit statuses are real. It encrypts and checks
nothing. Only builtin and C modules, as it is started often: by a bare interpreter, with an empty
environment.
"""

import _socket
import _thread
import os
import sys

CHUNK_BYTES = 256 * 1024


def main(argv: list[str]) -> int:
    """Relay between our stdin and stdout and the forced command; its exit status."""
    try:
        with open(argv[argv.index("-i") + 1] + ".forced") as file:
            command = file.read().strip()
    except (OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"ssh stand-in: there is no forced command for this key: {error}\n")
        return 255
    ours, theirs = _socket.socketpair()
    fd = theirs.fileno()
    both = [(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, file_actions=both)
    theirs.close()
    all_said = _thread.allocate_lock()
    all_said.acquire()
    _thread.start_new_thread(_up, (ours,))
    _thread.start_new_thread(_down, (ours, all_said))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    all_said.acquire()  # as sshd: what the command has said is delivered first
    # By the short way: the other thread may sit in a read that nothing ends.
    os._exit(status if status >= 0 else 255)


def _up(sock: _socket.socket) -> None:
    try:
        while data := os.read(0, CHUNK_BYTES):
            sock.sendall(data)
        sock.shutdown(_socket.SHUT_WR)
    except OSError:
        return  # the command is gone


def _down(sock: _socket.socket, all_said: _thread.LockType) -> None:
    try:
        while data := sock.recv(CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    except OSError:
        sock.shutdown(_socket.SHUT_RDWR)  # our reader is gone: the command is to know
    os.close(1)
    all_said.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
