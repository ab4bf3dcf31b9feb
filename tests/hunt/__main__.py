"""`python -m tests.hunt [FIRST] [COUNT]`: run so many seeds; a failing one is shrunk and told."""

from __future__ import annotations

import sys
from dataclasses import replace

from tests.hunt.scenario import Scenario, scenario_of
from tests.hunt.world import run_scenario


def shrunk(scenario: Scenario) -> Scenario:
    """With as few of its events as still break something."""
    events = list(scenario.events)
    at = 0
    while at < len(events):
        fewer = replace(scenario, events=(*events[:at], *events[at + 1 :]))
        if run_scenario(fewer).broken:
            events = list(fewer.events)
        else:
            at += 1
    return replace(scenario, events=tuple(events))


def main() -> int:
    first, count = (int(word) for word in [*sys.argv[1:], "1", "20"][:2])
    failed = 0
    for seed in range(first, first + count):
        outcome = run_scenario(scenario_of(seed))
        if not outcome.broken:
            continue
        print(f"seed {seed} breaks something; it is made smaller", flush=True)
        failed += 1
        small = shrunk(scenario_of(seed))
        print(f"seed {seed}: {run_scenario(small).broken}\n{small}")
        print(f"  again: python -m tests.hunt {seed}", flush=True)
    print(f"{count} seeds, {failed} broken")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
