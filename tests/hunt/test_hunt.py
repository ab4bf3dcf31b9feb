"""Some seeds of the hunt; `make simulate-faults SEEDS=n` runs more. And proof that it finds what is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.hunt.scenario import scenario_of
from tests.hunt.world import FaultyZfs, run_scenario
from zrepl_trio.pruning import pruner
from zrepl_trio.pruning.plan import Base, base_on_receiver
from zrepl_trio.zfs.model import FilesystemVersion

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(1, 9))
def test_what_goes_wrong_comes_right(seed: int) -> None:
    outcome = run_scenario(scenario_of(seed))
    assert outcome.broken == []
    assert outcome.runs >= 4


def test_a_seed_is_one_story() -> None:
    first, second = (run_scenario(scenario_of(3)) for _ in range(2))
    assert first.digest == second.digest
    assert run_scenario(scenario_of(4)).digest != first.digest


def test_pruning_that_forgets_the_common_base_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirmation that got lost, and pruning: replicas that diverged for good (zrepl#340)."""

    def forgetful(
        cursor: int | None,
        ours: Sequence[FilesystemVersion],
        theirs: Sequence[FilesystemVersion] | None,
    ) -> Base:
        return replace(base_on_receiver(cursor, ours, theirs), keep=frozenset())

    async def held(*_: object) -> None:
        """Nothing is."""

    scenario = replace(
        scenario_of(1),
        keep_sender='[{type: regex, regex: ".*"}]',
        keep_receiver='[{type: regex, regex: "nothing"}]',
        events=(),
    )
    assert run_scenario(scenario).broken == []
    monkeypatch.setattr(FaultyZfs, "hold", held)
    monkeypatch.setattr(FaultyZfs, "hold_of", held)
    (no_hold,) = run_scenario(scenario).broken
    assert "is held at []" in no_hold
    monkeypatch.setattr(pruner, "base_on_receiver", forgetful)
    (diverged,) = run_scenario(scenario).broken
    assert "is the newest that both have" in diverged
