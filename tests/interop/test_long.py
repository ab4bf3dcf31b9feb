"""Long and rough, each of the four ways; `thorough`, since on real OpenZFS it takes its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.hosts import scratch

from . import long
from .faults import Faults, faulty
from .pairs import Pair, lanes
from .pools import World
from .sshd import Sshd
from .test_matrix import WAYS

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1800)]
# one over ssh: its server knows the keys of one row at a time
TRANSPORTS = {"we-pull": "tcp", "they-pull": "ssh", "we-push": "tls", "they-push": "tcp"}
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def faults(world: World, tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return faulty(world, tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def rows(faults: Faults, sshd: Sshd) -> Iterator[Mapping[str, Mapping[str, Pair]]]:
    """A pair of daemons for each way, all at once."""
    with ExitStack() as stack:
        made = {}
        for way, (passive, active, pushes) in WAYS.items():
            made[way] = stack.enter_context(
                lanes(
                    faults.world,
                    sshd,
                    Path(stack.enter_context(scratch())),
                    way,
                    long.LANES,
                    passive=passive(),
                    proxy=passive(),
                    active=active(),
                    transport=TRANSPORTS[way],
                    pushes=pushes,
                )
            )
        yield made


@pytest.fixture
def pair(request: pytest.FixtureRequest, rows: Mapping[str, Mapping[str, Pair]], way: str) -> Pair:
    return rows[way][request.param]


def lane(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", names, indirect=True)


def test_silence_and_back_pressure(faults: Faults, rows: Mapping[str, Mapping[str, Pair]]) -> None:
    long.idle_and_pressed(faults, list(rows.values()))


@every_way
@lane("failing")
def test_failures_are_told(pair: Pair, faults: Faults) -> None:
    long.failures_are_told(faults, pair)


@every_way
@lane("refusing")
def test_refusals_are_told(pair: Pair, faults: Faults) -> None:
    long.refusals_are_told(faults, pair)


@every_way
@lane("stopped-active", "stopped-passive")
def test_stopped_in_mid_stream(pair: Pair) -> None:
    long.stopped_in_mid_stream(pair, pair.lane.name.removeprefix("stopped-"))


@every_way
@lane("stuck")
def test_a_hanging_zfs_is_given_up(pair: Pair, faults: Faults) -> None:
    long.a_hanging_zfs_is_given_up(faults, pair)


@every_way
@lane("often")
def test_many_connections(pair: Pair) -> None:
    long.many_connections(pair)


@every_way
@lane("many")
def test_many_snapshots(pair: Pair) -> None:
    long.many_snapshots(pair, 500 if pair.world.real else 5000)


@every_way
@lane("big")
def test_a_gib(pair: Pair) -> None:
    long.a_gib(pair)
