"""Each bug built in again is found by its seed; `make simulate-mutants` hunts for them from the first seed on."""

from __future__ import annotations

import pytest

from tests.hunt.mutants import MUTANTS
from tests.hunt.test_hunt import SEEDS

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_it_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    # one of those in which nothing is found without it: what was found is its doing
    assert mutant.seed <= SEEDS
    assert mutant.caught(mutant.seed)
