"""Each bug built in again is found by its seed; `make simulate-mutants` hunts for them from the first seed on."""

from __future__ import annotations

import pytest

from tests.hunt.mutants import MUTANTS, SEEDS
from tests.hunt.scenario import scenario_of
from tests.hunt.world import run_scenario

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_it_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.seed <= SEEDS
    assert mutant.caught(mutant.seed)
    # without it, nothing is found: what was found is its doing
    assert run_scenario(scenario_of(mutant.seed)).broken == []
