"""Running pipelines and pairs in turn, and reporting medians with their spread.

Machines drift, so nothing here is compared across runs: two candidates alternate round by round and
the ratio is taken of each pair.
"""

from __future__ import annotations

import fcntl
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Stage:
    """How one process of a pipeline ended: CPU seconds of it and its reaped children."""

    cpu_s: float
    status: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A finished pipeline: wall seconds from the first start to the last exit."""

    wall_s: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One reported number against its bar; `at_most` says which side of the bar is good."""

    name: str
    values: tuple[float, ...]
    bar: float
    at_most: bool
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        return self.median <= self.bar if self.at_most else self.median >= self.bar


def run_pipeline(
    argvs: Sequence[Sequence[str]], *, pipe_bytes: int, env: Mapping[str, str] | None = None
) -> Pipeline:
    """Run the commands joined by pipes of that size, /dev/null at both ends."""
    null = os.open(os.devnull, os.O_RDWR)
    children: list[subprocess.Popen[bytes]] = []
    source = null
    start = time.perf_counter()
    for number, argv in enumerate(argvs):
        last = number == len(argvs) - 1
        read, write = (null, null) if last else os.pipe()
        if not last:
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, pipe_bytes)
        children.append(subprocess.Popen(argv, stdin=source, stdout=write, env=env))
        for fd in {source, write} - {null}:
            os.close(fd)
        source = read
    stages = []
    for child in children:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        stages.append(Stage(usage.ru_utime + usage.ru_stime, child.returncode))
    wall = time.perf_counter() - start
    os.close(null)
    failed = [argv for argv, stage in zip(argvs, stages, strict=True) if stage.status]
    if failed:
        raise RuntimeError(f"failed in the pipeline: {failed}")
    return Pipeline(wall, tuple(stages))


A = TypeVar("A")
B = TypeVar("B")


def in_turn(rounds: int, one: Callable[[], A], two: Callable[[], B]) -> list[tuple[A, B]]:
    """`rounds` pairs, the two alternating, after one uncounted pair."""
    pairs = [(one(), two()) for _ in range(rounds + 1)]
    return pairs[1:]


def report(title: str, figures: Sequence[Figure]) -> bool:
    """Print the figures; whether every bar is reached."""
    print(f"\n{title}")
    for figure in figures:
        spread = f"{min(figure.values):.3g} to {max(figure.values):.3g}"
        sign = "≤" if figure.at_most else "≥"
        verdict = "ok" if figure.reached else "NOT REACHED"
        print(
            f"  {figure.name:<58} {figure.median:>7.3g}  ({spread}, n={len(figure.values)})"
            f"  bar {sign} {figure.bar:g}: {verdict}"
        )
        if figure.note:
            print(f"    {figure.note}")
    return all(figure.reached for figure in figures)
