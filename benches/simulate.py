"""A simulated source and puller with 5 filesystems, snapshots and pulls every ten minutes, both sides pruned."""

from __future__ import annotations

import subprocess
import sys

from benches.measure import Figure

ROUNDS = 3
DAYS = 20
"""A year is 18.25 times as long."""

SETTLING_DAYS = 5
"""The days before, in which snapshots gather. With them goes what any simulation takes once: its samples."""


def _run(days: float, how: str) -> tuple[float, int]:
    argv = [sys.executable, "-m", "benches.simulate_stage", str(days), how]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    cpu_s, runs = done.stdout.split()
    return float(cpu_s), int(runs)


def _days() -> float:
    both = [_run(days, "direct")[0] for days in (SETTLING_DAYS, SETTLING_DAYS + DAYS)]
    return both[1] - both[0]


def measure() -> list[Figure]:
    years = [_days() * 365 / DAYS for _ in range(ROUNDS)]
    cycles = [cpu_s / runs * 1000 for cpu_s, runs in (_run(2, "wire") for _ in range(ROUNDS))]
    return [
        Figure(
            "a year of a source and a puller: CPU-s",
            tuple(years),
            120,
            at_most=True,
            note=f"by {DAYS} days of it",
        ),
        Figure("by the wire, a cycle: CPU-ms", tuple(cycles), 30, at_most=True),
    ]
