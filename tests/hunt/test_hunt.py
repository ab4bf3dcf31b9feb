"""What CI hunts: so many seeds with all kinds of faults. `make simulate-faults SEEDS=n` runs more."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.hunt.disturbing import DAEMON_OF, Host
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.invariants import Judge
from tests.hunt.moments import AtStep
from tests.hunt.scenario import AFTER, BEFORE, CYCLE_S, FAULTY_S, KINDS, scenario_of
from tests.hunt.topology import TOPOLOGIES
from tests.hunt.world import START, run_scenario
from zrepl_trio.config.load import parse_config
from zrepl_trio.simulate.determinism import SimulatedClock

pytestmark = pytest.mark.slow

SEEDS = 300
GROUPS = 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_what_goes_wrong_comes_right(group: int) -> None:
    """A failing seed is told with `python -m tests.hunt SEED`, shrunk."""
    for seed in range(group + 1, SEEDS + 1, GROUPS):
        outcome = run_scenario(scenario_of(seed))
        assert outcome.broken == [], f"seed {seed}: {outcome.broken}"
        assert outcome.runs >= 40
        assert len(outcome.struck) >= 3, f"seed {seed}: no more than {outcome.struck}"


def test_a_seed_is_one_story() -> None:
    first, second = (run_scenario(scenario_of(3)) for _ in range(2))
    assert first.digest == second.digest
    assert run_scenario(scenario_of(4)).digest != first.digest


def test_what_is_to_fail_is_called() -> None:
    """A fault of a command that nobody calls is none; what is drawn more rarely than others need not be."""
    drawn = (*BEFORE.values(), *AFTER.values())
    often = {name for names in drawn for name, weight in names.items() if weight >= 1}
    called = {call for seed in range(1, 9) for call in run_scenario(scenario_of(seed)).calls}
    assert often <= called


def test_the_seeds_have_all_there_is() -> None:
    scenarios = [scenario_of(seed) for seed in range(1, SEEDS + 1)]
    assert {scenario.topology.name for scenario in scenarios} == set(TOPOLOGIES)
    assert FAULTY_S >= 50 * CYCLE_S
    kinds = [event.kind for scenario in scenarios for event in scenario.events]
    for kind in KINDS:
        assert kinds.count(kind) >= 10, kind


async def test_a_daemon_is_killed_at_the_await_that_its_tasks_have_come_to(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scenario = scenario_of(1)
    clock = SimulatedClock(START)
    zfs = FaultyZfs("app", seed=1, clock=clock, witness=Judge(scenario))
    host = Host("app", parse_config(scenario.topology.configs["app"]).config, zfs, clock)
    came = 0

    async def work() -> None:
        nonlocal came
        DAEMON_OF.set(host)
        with host.scope:
            while True:
                came += 1
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        killer = AtStep(
            5,
            lambda: host.kill(down_for=7),
            concerns=lambda task: task.context.get(DAEMON_OF) is host,
        )
        trio.lowlevel.add_instrument(killer)
        nursery.start_soon(work)
    # it was about to go on for the fifth time, and comes no further than the next await
    assert came == 5
    assert host.zfs.dead
    assert host.up_at == trio.current_time() + 7
