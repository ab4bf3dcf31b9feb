"""Two daemons, sshd between them, real OpenZFS below both: what everything is for.

The same scenarios as against zrepl, and `kill -9` of each process in the middle of a transfer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.interop.pairs import Pair, both_ours
from tests.interop.pools import World
from tests.interop.scenarios import (
    an_initial_send_is_resumed,
    full_incremental_and_resumed,
    killed_in_mid_transfer,
)
from tests.interop.sshd import Sshd

pytestmark = pytest.mark.timeout(600)
_names = (f"ours{number}" for number in itertools.count(1))


@pytest.fixture
def pair(world: World, sshd: Sshd) -> Iterator[Pair]:
    with both_ours(
        world,
        sshd,
        next(_names),
    ) as made:
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


@pytest.mark.parametrize("victim", ["zfs send", "zfs recv", "passive", "active"])
def test_killed_in_mid_transfer_it_converges(pair: Pair, victim: str) -> None:
    killed_in_mid_transfer(pair, victim)
