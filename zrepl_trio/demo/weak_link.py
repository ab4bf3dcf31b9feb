"""An ssh whose cable can be cut: the real ssh, with a relay behind its stdout that counts.

    weak_link.py DIR SSH ARGUMENT…

runs SSH with those arguments in this very process, so that whoever started it has the real
ssh's pid. What ssh receives passes a relay process, which counts it into DIR/received.PID. The
file DIR/plan, if there is one, is taken by the first connection that gets as far as it says:

    cut N      after N bytes ssh is killed, as when a link breaks
    stall N    after N bytes nothing passes until DIR/stalled is removed; it holds ssh's pid

Without a DIR/plan and a DIR/count nothing is put in between. Standard library only: it runs with
`python -I -S`, in the empty environment that ssh is given.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

CHUNK_BYTES = 256 * 1024
STALL_POLL_MS = 20


def _plan(directory: str) -> tuple[str, int]:
    try:
        with open(os.path.join(directory, "plan")) as file:
            kind, _, count = file.read().strip().partition(" ")
    except FileNotFoundError:
        return "", 0
    return kind, int(count)


def _take(directory: str) -> bool:
    """Whether the plan is ours: of several connections one alone carries it out."""
    try:
        os.rename(os.path.join(directory, "plan"), os.path.join(directory, "plan.done"))
    except FileNotFoundError:
        return False
    return True


def _note(directory: str, name: str, number: int) -> None:
    path = os.path.join(directory, name)
    with open(f"{path}.new", "w") as file:
        file.write(f"{number}\n")
    os.rename(f"{path}.new", path)


def _stall(directory: str, source: int, sink: int, ssh: int) -> None:
    """Return when the stall is lifted, or when either end is gone."""
    _note(directory, "stalled", ssh)
    poll = select.poll()
    poll.register(source, 0)
    poll.register(sink, 0)
    while os.path.exists(os.path.join(directory, "stalled")):
        if poll.poll(0):
            return
        time.sleep(STALL_POLL_MS / 1000)


def _relay(directory: str, source: int, sink: int, ssh: int) -> None:
    total = 0
    try:
        while True:
            kind, limit = _plan(directory)
            room = limit - total if kind and limit > total else CHUNK_BYTES
            chunk = os.read(source, min(CHUNK_BYTES, room))
            if not chunk:
                return
            total += len(chunk)
            view = memoryview(chunk)
            while view:
                select.select([], [sink], [])
                try:
                    view = view[os.write(sink, view) :]
                except BlockingIOError:  # the pipe is shared, and non-blocking at its other end
                    continue
            if kind and total >= limit and _take(directory):
                if kind == "cut":
                    os.kill(ssh, signal.SIGKILL)
                    return
                _stall(directory, source, sink, ssh)
    except BrokenPipeError:
        return
    finally:
        _note(directory, f"received.{ssh}", total)


def main() -> None:
    directory, ssh, *arguments = sys.argv[1:]
    if not any(os.path.exists(os.path.join(directory, name)) for name in ("plan", "count")):
        os.execv(ssh, [ssh, *arguments])
    source, ssh_stdout = os.pipe()
    own = os.getpid()
    if os.fork() == 0:
        # stdin and stderr are ssh's: as long as we hold them, their other ends see no end.
        os.close(ssh_stdout)
        sink = os.dup(1)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        _relay(directory, source, sink, own)
        os._exit(0)
    os.close(source)
    os.dup2(ssh_stdout, 1)
    os.close(ssh_stdout)
    os.execv(ssh, [ssh, *arguments])


if __name__ == "__main__":
    main()
