"""A framed relay (pipe, frames, pipe) against `cat | cat`, with the same pipe sizes."""

from __future__ import annotations

import sys

from benches.measure import GIB, Figure, Pipeline, in_turn, run_pipeline

BYTES = 6 * GIB
ROUNDS = 5
PIPE_BYTES = 2**20


def _pipeline(first: list[str], second: list[str]) -> Pipeline:
    producer = ["head", "-c", str(BYTES), "/dev/zero"]
    return run_pipeline([producer, first, second, ["cat"]], pipe_bytes=PIPE_BYTES)


def measure() -> list[Figure]:
    stage = [sys.executable, "-m", "benches.relay_stage"]
    pairs = in_turn(
        ROUNDS,
        lambda: _pipeline([*stage, "out"], [*stage, "in"]),
        lambda: _pipeline(["cat"], ["cat"]),
    )
    rate = sorted(BYTES / GIB / ours.wall_s for ours, _ in pairs)[len(pairs) // 2]
    figures = [
        Figure(
            "throughput / cat | cat",
            tuple(cats.wall_s / ours.wall_s for ours, cats in pairs),
            1.2,
            at_most=False,
            note=f"{rate:.2f} GiB/s; {BYTES / GIB:g} GiB a round, start of the interpreters included",
        )
    ]
    for number, side in ((1, "sending"), (2, "receiving")):
        cpu = sorted(ours.stages[number].cpu_s for ours, _ in pairs)[len(pairs) // 2]
        figures.append(
            Figure(
                f"CPU of the {side} side / cat",
                tuple(
                    ours.stages[number].cpu_s / cats.stages[number].cpu_s for ours, cats in pairs
                ),
                0.65,
                at_most=True,
                note=f"{cpu / (BYTES / GIB):.3f} CPU-s/GiB",
            )
        )
    return figures
