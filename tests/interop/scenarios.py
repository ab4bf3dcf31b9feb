"""What a pair of daemons must manage, whoever they are."""

from __future__ import annotations

import fcntl
import os
import random
import sys
import termios
from contextlib import suppress
from typing import Any

import psutil

from .daemons import Daemon
from .pairs import Pair, both_ours
from .pools import World
from .sshd import Sshd
from .waiting import until

MIB = 2**20
WHOLE, STALL_AT = 48, 16  # MiB


def done(report: dict[str, Any]) -> dict[str, Any]:
    """The report, of a pull that ended well in its last attempt."""
    assert report["Attempts"][-1]["State"] == "done", report
    return report


def same(pair: Pair) -> None:
    """Both sides have the newest snapshot, by guid, and the same files."""
    theirs_by_guid = pair.world.snapshots(pair.replica)
    newest = list(pair.world.snapshots(pair.dataset).items())[-1]
    assert newest in theirs_by_guid.items()
    source, replica = (pair.world.files(name) for name in (pair.dataset, pair.replica))
    assert {p.name for p in source.iterdir()} == {p.name for p in replica.iterdir()}
    for path in source.iterdir():
        assert (replica / path.name).read_bytes() == path.read_bytes()


def write(pair: Pair, name: str, mib: int) -> None:
    content = random.Random(name).randbytes(mib * MIB)
    (pair.world.files(pair.dataset) / name).write_bytes(content)


def full_and_incremental(pair: Pair) -> None:
    """One snapshot, then two more, then nothing new."""
    write(pair, "one", 1)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    done(pair.replicate())
    assert list(pair.world.snapshots(pair.replica)) == ["1"]

    write(pair, "two", 1)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@2")
    write(pair, "three", 1)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@3")
    done(pair.replicate())
    assert list(pair.world.snapshots(pair.replica)) == ["1", "2", "3"]
    done(pair.replicate())


def full_incremental_and_resumed(pair: Pair) -> None:
    """The same, and then a snapshot whose transfer is cut in the middle."""
    full_and_incremental(pair)
    write(pair, "big", 12)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@4")
    before = sum(pair.received())
    pair.cut_at(6 * MIB)
    pair.replicate()
    assert not pair.cut_is_due
    report = done(pair.replicate())
    assert report["FinishAt"]
    assert list(pair.world.snapshots(pair.replica)) == ["1", "2", "3", "4"]
    # 12 MiB to send, cut after 6: what came before the cut, but for the last records, came once
    came = sum(pair.received()) - before
    assert 12 * MIB < came < 15 * MIB
    same(pair)


def an_initial_send_is_resumed(pair: Pair) -> None:
    """The first transfer of all is cut in the middle."""
    write(pair, "big", 12)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    pair.cut_at(6 * MIB)
    pair.replicate()
    assert not pair.cut_is_due
    done(pair.replicate())
    assert 12 * MIB < sum(pair.received()) < 15 * MIB, pair.received()
    same(pair)


def series(pair: Pair, count: int) -> list[str]:
    """A first snapshot, replicated, and then that many of 1 MiB each; their names."""
    write(pair, "one", 1)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@0")
    done(pair.replicate())
    for number in range(1, count + 1):
        write(pair, f"mib{number}", 1)
        pair.world.run("zfs", "snapshot", f"{pair.dataset}@{number}")
    return [str(number) for number in range(count + 1)]


def range_cut_and_resumed(pair: Pair) -> None:
    """Several snapshots in one stream, which is cut: what came whole stays, the rest follows."""
    names = series(pair, 12)
    before = sum(pair.received())
    pair.cut_at(6 * MIB)
    pair.replicate()
    assert not pair.cut_is_due
    done(pair.replicate())
    assert list(pair.world.snapshots(pair.replica)) == names
    bulk = [count for count in pair.received() if count > MIB // 4]
    # one connection for all of them, but for the one in which it was cut
    assert len(bulk) <= 4
    assert 12 * MIB < sum(pair.received()) - before < 15 * MIB
    bookmarks = pair.world.run("zfs", "list", "-H", "-t", "bookmark", "-o", "name", pair.dataset)
    assert len(bookmarks.split()) == 1
    same(pair)


def _pending(process: psutil.Process) -> int:
    """Bytes in the pipe that is its stdin."""
    fd = os.open(f"/proc/{process.pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(fd)


def killed_in_mid_transfer(pair: Pair, victim: str, *, in_range: bool = False) -> None:
    """One of the processes gets kill -9; the next run converges and resumes.

    `victim`: `zfs send`, `zfs recv`, or the daemon `passive` or `active`. The transfer is of one
    snapshot, or of a range.
    """
    # far more than ssh's window and all pipes hold, so that the send still runs at the kill
    names = ["1"]
    if in_range:
        names = series(pair, WHOLE)
    else:
        write(pair, "big", WHOLE)
        pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    with pair.stalled_at(STALL_AT * MIB):
        if in_range:
            # much of what came over the line may still be in pipes
            until(
                lambda: len(pair.world.snapshots(pair.replica)) > STALL_AT // 2,
                "half of what came is received",
            )
        sender, receiver = pair.passive, pair.active
        if pair.pushes:
            sender, receiver = receiver, sender
        send, recv = _child(sender, "send"), _child(receiver, "recv")
        processes = {
            "zfs send": send,
            "zfs recv": recv,
            "passive": psutil.Process(pair.passive.process.pid),
            "active": psutil.Process(pair.active.process.pid),
        }
        # what came is in zfs's hands, however busy the machine is
        until(lambda: _pending(recv) == 0, "zfs recv has taken what came")
        processes[victim].kill()
        if victim in {"passive", "active"}:
            getattr(pair, victim).process.wait()
    psutil.wait_procs([send, recv], timeout=60)
    assert not send.is_running()
    assert not recv.is_running()
    if victim in {"passive", "active"}:
        pair.restart(victim)

    done(pair.replicate())

    # Again comes only what zfs had not yet taken: some MiB were in pipes and in ssh. (What the
    # killed transfer brought is no measure: its count may be lost with it, or what it drains added.)
    resumed = [count for count in pair.received() if count > MIB][-1]
    assert MIB < resumed < (WHOLE - STALL_AT + 14) * MIB, pair.received()
    assert list(pair.world.snapshots(pair.replica)) == names
    same(pair)


def push_killed_in_mid_transfer(
    world: World, sshd: Sshd, name: str, *, kind: str, victim: str
) -> None:
    """The same over tcp, between two of ours, under that kind of protection."""
    with both_ours(
        world,
        sshd,
        name,
        transport="tcp",
        pushes=True,
        protection=kind,
    ) as pair:
        killed_in_mid_transfer(pair, victim)


def _child(daemon: Daemon, word: str) -> psutil.Process:
    """The daemon's `zfs` child with this subcommand; neither a dry run nor a look at the usage."""

    def found() -> psutil.Process | None:
        for process in psutil.Process(daemon.process.pid).children(recursive=True):
            # others come and go meanwhile
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                dry = any(option.startswith("-n") for option in words)
                if word in words[1:] and not dry:  # far behind an interpreter, where it is emulated
                    return process
        return None

    return until(found, f"a `zfs {word}` runs")
