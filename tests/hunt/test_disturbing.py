"""An admin's hand does what zfs lets it do, and waits until there is something to do."""

from __future__ import annotations

import itertools
from random import Random

import pytest
import trio.testing

from tests.hunt.disturbing import Disturber, Host
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.invariants import Judge
from tests.hunt.network import FaultyNetwork
from tests.hunt.scenario import Event, Scenario, scenario_of
from tests.hunt.world import START
from zrepl_trio.config.load import parse_config
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.zfs.model import SendArgs
from zrepl_trio.zfs.names import DatasetPath

F0 = DatasetPath("tank/f0")


class _Setup:
    def __init__(self, scenario: Scenario) -> None:
        clock = SimulatedClock(START)
        self.judge = Judge(scenario)
        for name in scenario.topology.configs:
            zfs = FaultyZfs(name, seed=1, clock=clock, witness=self.judge)
            self.judge.hosts[name] = zfs
        self.zfs = self.judge.hosts["app"]
        self.zfs.add_pool("tank")
        self.zfs.add_filesystem(F0)
        config = parse_config(scenario.topology.configs["app"]).config
        hosts = {"app": Host("app", config, self.zfs, clock)}
        self.disturber = Disturber(hosts, FaultyNetwork([]), self.judge, Random(1))

    def do(self, kind: str, *, calls: int = 0) -> None:
        self.disturber.do(Event(at=0.0, kind=kind, host="app", name=F0, calls=calls))


@pytest.fixture
async def setup(autojump_clock: trio.testing.MockClock) -> _Setup:
    return _Setup(scenario_of(1))


async def test_what_streams_is_renamed_afterwards(setup: _Setup) -> None:
    zfs = setup.zfs
    await zfs.snapshot(F0, "1")
    (version,) = await zfs.versions(F0)
    async with zfs.open_send(SendArgs(dataset=F0, to=version)) as send:
        setup.do("rename")
        await zfs.versions(F0)
        while await send.reader.receive_some():
            pass
        await send.finish()
    assert zfs.world.get(F0) is not None
    await zfs.datasets()
    assert zfs.world.get(F0) is None
    assert zfs.world.get(f"{F0}-moved") is not None


@pytest.mark.parametrize("kind", ["rename", "remove", "destroy"])
async def test_what_an_admin_does_while_a_daemon_prunes_is_not_the_daemons(
    setup: _Setup, kind: str
) -> None:
    """It comes between the beginning of the command and its effect."""
    zfs = setup.zfs
    for name in ("1", "2"):
        await zfs.snapshot(F0, name)
    setup.do(kind, calls=1)
    await zfs.destroy_snapshots(F0, [])
    assert setup.judge.broken == []


async def test_a_release_waits_for_a_hold_and_excuses_nothing_until_then(setup: _Setup) -> None:
    zfs, (flow, *_) = setup.zfs, scenario_of(1).topology.flows
    await zfs.snapshot(F0, "1")
    setup.do("release", calls=1)
    await zfs.versions(F0)
    await zfs.versions(F0)
    assert not setup.judge.excused(flow, F0)
    await zfs.hold(F0, ["1"], "tag")
    await zfs.versions(F0)
    assert await zfs.holds(F0, ["1"]) == []
    assert setup.judge.excused(flow, F0)


async def test_an_admin_acts_between_a_command_and_its_effect(setup: _Setup) -> None:
    zfs = setup.zfs
    await zfs.snapshot(F0, "1")
    setup.do("destroy", calls=2)
    assert len(await zfs.versions(F0)) == 1
    assert await zfs.versions(F0) == []


async def test_a_client_may_have_heard_of_what_has_been_renamed_since(
    autojump_clock: trio.testing.MockClock,
) -> None:
    every = (scenario_of(seed) for seed in itertools.count(1))
    setup = _Setup(next(each for each in every if each.topology.name == "pull"))
    setup.judge.seen("app", "backup", [str(F0)])
    setup.do("rename")
    setup.judge.seen("app", "backup", [str(F0)])
    assert setup.judge.broken == []
    setup.judge.seen("app", "backup", ["tank/another"])
    assert "backup was told of tank/another" in setup.judge.broken[0]
