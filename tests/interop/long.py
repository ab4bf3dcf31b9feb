"""Long and rough: silence, back-pressure, failures, much at once, ends in the middle."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil

from .cells import left_behind, take
from .daemons import Daemon
from .faults import FAILS, RECV_FAILS, RECV_HANGS, SEND_FAILS, SEND_HANGS, Faults
from .pairs import Lane, Pair
from .scenarios import MIB, done, same, write
from .waiting import until

IDLE_S, PRESSED_S = 65, 125
LONG_S = 900.0
CONNECTIONS = 200
LANES = [
    *map(
        Lane,
        (
            "idle",
            "pressed",
            "failing",
            "big",
            "stopped-active",
            "stopped-passive",
            "often",
            "stuck",
        ),
    ),
    Lane(
        "many",
        keep_sender='[{type: last_n, count: 3, regex: ".*"}]',
        keep_receiver='[{type: last_n, count: 3, regex: ".*"}]',
    ),
    Lane("refusing", keep_sender='[{type: last_n, count: 4, regex: ".*"}]'),
]


def idle_and_pressed(faults: Faults, rows: Sequence[Mapping[str, Pair]]) -> None:
    """All at once: senders silent for 65 s, and receivers that take nothing for 125 s."""
    idle = [row["idle"] for row in rows]
    pressed = [row["pressed"] for row in rows]
    for pair in (*idle, *pressed):
        write(pair, "data", 24)
        pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    began = time.monotonic()
    with (
        faults.of("send", "idle", f"sleep {IDLE_S}\n"),
        faults.of("recv", "pressed", f"sleep {PRESSED_S}\n"),
        ThreadPoolExecutor(len(idle) + len(pressed)) as pool,
    ):
        reports = list(pool.map(lambda pair: pair.replicate(limit_s=LONG_S), (*idle, *pressed)))
    assert time.monotonic() - began > PRESSED_S
    for pair, report in zip((*idle, *pressed), reports, strict=True):
        # at the first attempt: no connection was given up meanwhile
        assert len(done(report)["Attempts"]) == 1
        bulk = [count for count in pair.received() if count > MIB]
        assert len(bulk) == 1
        same(pair)


def failures_are_told(faults: Faults, pair: Pair) -> None:
    """`zfs` of either side fails in mid-stream: somebody says why; and then it goes on."""
    for number, (command, shell) in enumerate((("send", SEND_FAILS), ("recv", RECV_FAILS))):
        take(pair, str(number), 8)
        with faults.of(command, "failing", shell):
            report = pair.replicate()
        first = report["Attempts"][0]
        assert first["State"] == "filesystem-error", report
        told = str(first)
        if command == "send" and not pair.is_theirs(pair.sender):
            # a zrepl kills its `zfs recv` when it hears of it, and then speaks of that alone
            told += getattr(pair, pair.sender).log()
        if command == "send" and pair.is_theirs(pair.sender):
            # it ends the stream as if all were well: the receiver's zfs finds that it is not whole
            assert "incomplete stream" in told or "ended early" in told, told
        else:
            assert "it was made to fail" in told, told
        pair.active.pruned(pair.job("active"))
        done(pair.replicate())
        assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)
    names, tags = left_behind(pair)
    assert (len(names), len(tags)) == (1, 1)
    no_children(pair)


def refusals_are_told(faults: Faults, pair: Pair) -> None:
    """What a side is asked for fails, before the stream, after it, and in a pruning: the active side says why, and
    the next run, or pruning, does it."""
    take(pair, "0")
    done(pair.replicate())
    for number, command in enumerate(("hold", "bookmark"), start=1):
        take(pair, str(number), 1)
        with faults.of(command, pair.lane.name, FAILS):
            report = pair.replicate()
        assert "it was made to fail" in str(report["Attempts"]), report
        pair.active.pruned(pair.job("active"))
        done(pair.replicate())
        assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)
    with faults.of("destroy", pair.lane.name, FAILS):
        for name in "34":
            take(pair, name)
        done(pair.replicate())
        sides = pair.active.pruned(pair.job("active"))
    assert "it was made to fail" in str(sides), sides
    assert list(pair.world.snapshots(pair.dataset)) == list("01234")
    take(pair, "5")
    done(pair.replicate())
    pair.active.pruned(pair.job("active"))
    assert list(pair.world.snapshots(pair.dataset)) == list("2345")
    names, tags = left_behind(pair)
    assert (len(names), len(tags)) == (1, 1)
    # a zrepl that is refused a stream never asks how its ssh ended, a zrepl by a zrepl neither
    ours = [getattr(pair, role) for role in ("passive", "active") if not pair.is_theirs(role)]
    until(lambda: not any(map(_children, ours)), "our processes are gone")


def a_hanging_zfs_is_given_up(faults: Faults, pair: Pair) -> None:
    """A zrepl's `zfs` hangs, its heartbeats go on: our side ends it, and says why; and then it goes on."""
    theirs = "passive" if pair.is_theirs("passive") else "active"
    here = "active" if theirs == "passive" else "passive"
    command, shell = ("send", SEND_HANGS) if theirs == pair.sender else ("recv", RECV_HANGS)
    take(pair, "0", 24)
    pair.reconfigure(here, "global:\n", f"global:\n{_SOON}")
    with faults.of(command, "stuck", shell):
        pair.active.wake(pair.job("active"))
        until(
            lambda: "the peer lives, but" in getattr(pair, here).log(), "ours gives it up", LONG_S
        )
        until(lambda: not _children(getattr(pair, here)), "ours has no child left")
        for child in _children(getattr(pair, theirs)):
            child.kill()
    pair.reconfigure(here, _SOON, "")
    done(pair.replicate())
    same(pair)


_SOON = "  zfs: {stream_timeout: 12s}\n"


def a_gib(pair: Pair) -> None:
    """As a stream; in the pools, which have no more room than that, zfs makes little of it."""
    files = pair.world.files(pair.dataset)
    for number in range(16):
        (files / f"part{number}").write_bytes(random.Random(number).randbytes(1024) * (64 * 1024))
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    done(pair.replicate(limit_s=LONG_S))
    assert sum(pair.received()) > 1024 * MIB
    same(pair)


def many_snapshots(pair: Pair, count: int) -> None:
    """Of so many the newest is replicated; the others are destroyed, asked for in one call."""
    pair.world.snapshot_each(pair.dataset, [f"{number:05}" for number in range(count)])
    done(pair.replicate(limit_s=LONG_S))
    take(pair, "last")
    done(pair.replicate(limit_s=LONG_S))
    sides = pair.active.pruned(pair.job("active"))
    assert [side["State"] for side in sides] == ["Done", "Done"]
    left = [f"{number:05}" for number in range(count)[-2:]] + ["last"]
    assert list(pair.world.snapshots(pair.dataset)) == left
    assert list(pair.world.snapshots(pair.replica)) == left[1:]


def stopped_in_mid_stream(pair: Pair, role: str) -> None:
    """A daemon that is told to end does, with all that it started; the next goes on from there."""
    take(pair, "1", 24)
    with pair.stalled_at(8 * MIB):
        process = psutil.Process(getattr(pair, role).process.pid)
        children = process.children(recursive=True)
        assert children
        pair.ends.stop(role)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, [each.cmdline() for each in alive]
    pair.ends.start(role)
    until(
        lambda: (
            pair.world.value("receive_resume_token", pair.replica) != "-"
            or pair.world.snapshots(pair.replica)
        ),
        "what came is saved",
    )
    done(pair.replicate())
    resumed = [count for count in pair.received() if count > MIB][-1]
    assert resumed < 20 * MIB, pair.received()
    assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)
    no_children(pair)


def many_connections(pair: Pair) -> None:
    """A data connection for each of many snapshots, one after another: neither side keeps any."""
    take(pair, "first", 1)
    done(pair.replicate())
    pair.active.pruned(pair.job("active"))
    no_children(pair)
    before = fds(pair)
    ended = len(pair.received())
    pair.world.snapshot_each(pair.dataset, [f"{number:03}" for number in range(CONNECTIONS)])
    done(pair.replicate(limit_s=LONG_S))
    assert len(pair.received()) - ended >= CONNECTIONS
    assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)
    no_children(pair)
    # Go's runtime opens a few of its own as it grows
    until(
        lambda: all(now < then + 8 for now, then in zip(fds(pair), before, strict=True)),
        f"either side has as many files open as before, {before}",
    )


def fds(pair: Pair) -> list[int]:
    return [psutil.Process(each.process.pid).num_fds() for each in (pair.passive, pair.active)]


def no_children(pair: Pair) -> None:
    """Neither daemon has a process any more; zombies count."""
    until(lambda: not any(map(_children, (pair.passive, pair.active))), "all processes are gone")


def _children(daemon: Daemon) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(daemon.process.pid).children(recursive=True)
    return []
