"""The same cases over every transport, for a push and for a pull, with real daemons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.interop.cells import one_stops_no_other
from tests.interop.links import IDENTITY, TRANSPORTS
from tests.interop.pairs import Pair, both_ours
from tests.interop.pools import World
from tests.interop.scenarios import (
    MIB,
    an_initial_send_is_resumed,
    done,
    full_and_incremental,
    full_incremental_and_resumed,
    killed_in_mid_transfer,
    push_killed_in_mid_transfer,
    range_cut_and_resumed,
    same,
    write,
)
from tests.interop.sshd import Sshd
from zrepl_trio.demo.openssh import find_sshd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.sshd,
    pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed"),
]

_names = (f"link{number}" for number in itertools.count(1))
WAYS = list(itertools.product(TRANSPORTS, (False, True)))
IDS = [f"{transport}-{'push' if pushes else 'pull'}" for transport, pushes in WAYS]


@pytest.fixture
def pair(request: pytest.FixtureRequest, world: World, sshd: Sshd) -> Iterator[Pair]:
    transport, pushes, *rest = request.param
    with both_ours(
        world,
        sshd,
        next(_names),
        transport=transport,
        pushes=pushes,
        protection=rest[0] if rest else "",
    ) as made:
        yield made


every_way = pytest.mark.parametrize("pair", WAYS, ids=IDS, indirect=True)
with_a_line = pytest.mark.parametrize(
    "pair",
    [way for way in WAYS if way[0] != "local"],
    ids=[name for name in IDS if not name.startswith("local")],
    indirect=True,
)


@every_way
def test_full_incremental_and_nothing_new(pair: Pair) -> None:
    full_and_incremental(pair)
    same(pair)


@with_a_line
def test_cut_and_resumed(pair: Pair) -> None:
    full_incremental_and_resumed(pair)


@with_a_line
def test_an_initial_send_is_resumed(pair: Pair) -> None:
    an_initial_send_is_resumed(pair)


@every_way
def test_a_full_receiver_says_so_and_goes_on_when_there_is_room(pair: Pair) -> None:
    write(pair, "big", 12)
    pair.world.run("zfs", "snapshot", f"{pair.dataset}@1")
    root = "/".join(pair.replica.split("/")[:2])
    pair.world.run("zfs", "set", f"quota={8 * MIB}", root)
    report = pair.replicate()
    text = str(report["Attempts"])
    assert pair.replica in text
    assert "quota" in text or "space" in text
    pair.world.run("zfs", "set", "quota=none", root)
    done(pair.replicate())
    same(pair)


@every_way
def test_one_filesystem_that_cannot_go_on_stops_no_other(pair: Pair) -> None:
    one_stops_no_other(pair)


@pytest.mark.parametrize("pushes", [False, True], ids=["pull", "push"])
def test_replicas_go_where_the_receivers_target_says(
    world: World, sshd: Sshd, *, pushes: bool
) -> None:
    target = '{"DATASET<": "", "DATASET/vm/web": hosts/web}'
    with both_ours(
        world,
        sshd,
        next(_names),
        transport="local",
        pushes=pushes,
        target=target,
    ) as pair:
        for name in ("a", "a/b", "vm", "vm/web"):
            world.run("zfs", "create", f"{pair.dataset}/{name}")
        root = pair.replica.removesuffix(f"/{pair.dataset}")
        assert root.endswith(IDENTITY) == pushes
        for snapshot in ("1", "2"):
            world.run("zfs", "snapshot", "-r", f"{pair.dataset}@{snapshot}")
            attempts = pair.replicate()["Attempts"]
            assert isinstance(attempts, list)
            # the dataset itself is left nothing of its name; all below it goes on
            assert attempts[-1]["State"] == "filesystem-error"
            assert f"the place of {pair.dataset} would be the root itself" in str(attempts)
            for place in ("a", "a/b", "vm", "hosts/web"):
                assert snapshot in world.snapshots(f"{root}/{place}")


@with_a_line
def test_several_snapshots_go_in_one_stream_that_may_be_cut(pair: Pair) -> None:
    range_cut_and_resumed(pair)


@pytest.mark.parametrize("victim", ["zfs send", "zfs recv", "passive", "active"])
@pytest.mark.parametrize(
    "pair",
    [("ssh", False), ("tcp", True)],
    ids=["pull over ssh", "push"],
    indirect=True,
)
def test_a_range_killed_in_mid_transfer_converges(pair: Pair, victim: str) -> None:
    killed_in_mid_transfer(pair, victim, in_range=True)


@pytest.mark.parametrize("victim", ["zfs send", "zfs recv", "passive", "active"])
@pytest.mark.parametrize(
    "pair",
    [("tcp", True, f"guarantee_{kind}") for kind in ("resumability", "incremental", "nothing")],
    ids=["resumability", "incremental", "nothing"],
    indirect=True,
)
def test_a_push_killed_in_mid_transfer_converges(pair: Pair, victim: str) -> None:
    killed_in_mid_transfer(pair, victim)


@pytest.mark.parametrize("victim", ["zfs send", "zfs recv", "passive", "active"])
@pytest.mark.parametrize("kind", ["guarantee_incremental", "guarantee_nothing"])
def test_a_push_killed_in_mid_transfer_converges_whatever_is_promised(
    world: World, sshd: Sshd, kind: str, victim: str
) -> None:
    push_killed_in_mid_transfer(world, sshd, next(_names), kind=kind, victim=victim)
