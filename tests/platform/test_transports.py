"""Every transport, for a push and for a pull, with real OpenZFS below both daemons."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from tests.interop.links import TRANSPORTS
from tests.interop.pairs import Pair, both_ours
from tests.interop.pools import World
from tests.interop.scenarios import (
    full_and_incremental,
    full_incremental_and_resumed,
    killed_in_mid_transfer,
    push_killed_in_mid_transfer,
    range_cut_and_resumed,
    same,
)
from tests.interop.sshd import Sshd

pytestmark = pytest.mark.timeout(600)

VICTIMS = ("zfs send", "zfs recv", "passive", "active")
KINDS = ("guarantee_resumability", "guarantee_incremental", "guarantee_nothing")
_names = (f"link{number}" for number in itertools.count(1))


# what differs between them is tested on emulated pools in all eight combinations
_LIKE_THEIR_NEIGHBOURS = {("tcp", True), ("tls", False)}


# ssh-pull is what all of test_daemons.py is about
@pytest.mark.parametrize(
    ("transport", "pushes"),
    [
        pytest.param(*way, marks=pytest.mark.thorough) if way in _LIKE_THEIR_NEIGHBOURS else way
        for way in itertools.product(TRANSPORTS, (False, True))
        if way != ("ssh", False)
    ],
)
def test_full_incremental_and_resumed(
    transport: str, pushes: bool, world: World, sshd: Sshd
) -> None:
    pair: Pair
    with both_ours(
        world,
        sshd,
        next(_names),
        transport=transport,
        pushes=pushes,
    ) as pair:
        scenario = full_and_incremental if transport == "local" else full_incremental_and_resumed
        scenario(pair)
        same(pair)  # last: to look at a replica mounts it, and that modifies it


def test_several_snapshots_go_in_one_stream_that_may_be_cut(world: World, sshd: Sshd) -> None:
    pair: Pair
    with both_ours(world, sshd, next(_names), transport="tcp") as pair:
        range_cut_and_resumed(pair)


def _thorough_but(cases: Iterable[tuple[object, str]], *always: object) -> list[object]:
    """All of the cases; those that are not named here with TEST_ZFS_THOROUGH alone."""
    return [
        case if case in always else pytest.param(*case, marks=pytest.mark.thorough)
        for case in cases
    ]


@pytest.mark.parametrize(
    ("pushes", "victim"),
    _thorough_but(itertools.product((False, True), VICTIMS), (True, "active")),
)
def test_a_range_killed_in_mid_transfer_converges(
    world: World, sshd: Sshd, pushes: bool, victim: str
) -> None:
    pair: Pair
    with both_ours(world, sshd, next(_names), pushes=pushes) as pair:
        killed_in_mid_transfer(pair, victim, in_range=True)


@pytest.mark.parametrize(
    ("kind", "victim"),
    _thorough_but(
        itertools.product(KINDS, VICTIMS),
        ("guarantee_incremental", "passive"),
        ("guarantee_nothing", "zfs send"),
    ),
)
def test_a_push_killed_in_mid_transfer_converges_whatever_is_promised(
    world: World, sshd: Sshd, kind: str, victim: str
) -> None:
    push_killed_in_mid_transfer(world, sshd, next(_names), kind=kind, victim=victim)
