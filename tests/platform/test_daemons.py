"""Two daemons, sshd between them, real OpenZFS below both: what everything is for.

The same scenarios as against zrepl, and `kill -9` of each process in the middle of a transfer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.interop.daemons import Daemon, ours
from tests.interop.pairs import Pair, joined
from tests.interop.pools import World, two_pools
from tests.interop.scenarios import (
    MIB,
    an_initial_send_is_resumed,
    done,
    full_incremental_and_resumed,
    same,
    write,
)
from tests.interop.sshd import Sshd, running_sshd
from tests.interop.waiting import until

pytestmark = pytest.mark.timeout(600)
WHOLE, STALL_AT = 48, 16  # MiB
_names = (f"ours{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with two_pools(tmp_path_factory.mktemp("pools")) as made:
        yield made


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("ssh") / "sshd") as started:
        yield started


@pytest.fixture
def pair(world: World, sshd: Sshd, tmp_path: Path) -> Iterator[Pair]:
    us = ours()
    with joined(world, sshd, tmp_path, next(_names), passive=us, proxy=us, active=us) as made:
        yield made


def tags(world: World, snapshot: str) -> list[str]:
    return [line.split("\t")[1] for line in world.run("zfs", "holds", "-H", snapshot).splitlines()]


def test_full_incremental_and_resumed(pair: Pair) -> None:
    full_incremental_and_resumed(pair)
    world = pair.world
    assert tags(world, f"{pair.replica}@4") == ["zrepl_last_received_J_active"]
    assert tags(world, f"{pair.replica}@3") == []
    assert tags(world, f"{pair.dataset}@4") == []
    bookmarks = world.run("zfs", "list", "-H", "-o", "name", "-t", "bookmark", "-r", pair.dataset)
    guid = int(world.value("guid", f"{pair.dataset}@4"))
    assert bookmarks.splitlines() == [f"{pair.dataset}#zrepl_CURSOR_G_{guid:016x}_J_passive"]


def test_an_initial_send_is_resumed(pair: Pair) -> None:
    an_initial_send_is_resumed(pair)


def child(daemon: Daemon, word: str) -> psutil.Process:
    """The daemon's `zfs` child with this subcommand; neither a dry run nor a look at the usage."""

    def found() -> psutil.Process | None:
        for process in psutil.Process(daemon.process.pid).children(recursive=True):
            # others come and go meanwhile
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                dry = any(option.startswith("-n") for option in words)
                if len(words) > 2 and word in words[1:3] and not dry:
                    return process
        return None

    return until(found, f"a `zfs {word}` runs")


@pytest.mark.parametrize("victim", ["zfs send", "zfs recv", "passive", "active"])
def test_killed_in_mid_transfer_it_converges(pair: Pair, victim: str) -> None:
    # far more than ssh's window and all pipes hold, so that the send still runs at the kill
    write(pair, "big", WHOLE)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    with pair.stalled_at(STALL_AT * MIB):
        send, recv = child(pair.passive, "send"), child(pair.active, "recv")
        processes = {
            "zfs send": send,
            "zfs recv": recv,
            "passive": psutil.Process(pair.passive.process.pid),
            "active": psutil.Process(pair.active.process.pid),
        }
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
    assert MIB < resumed < (WHOLE - STALL_AT + 14) * MIB
    assert list(pair.world.snapshots(pair.replica)) == ["1"]
    same(pair)
