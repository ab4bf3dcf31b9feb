"""Many small snapshots to catch up, step by step as with a zrepl peer, and by ranges.

Both sides are in this process, on emulated pools; the zfs processes that they start are counted.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import trio

from benches.measure import Figure
from zrepl_trio.children import open_processes
from zrepl_trio.clock import SystemClock
from zrepl_trio.emulate.sandbox import Sandbox
from zrepl_trio.emulate.store import Store
from zrepl_trio.emulate.zfs_changes import COMMANDS
from zrepl_trio.emulate.zpool import COMMANDS as POOL_COMMANDS
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.policy import InitialReplication, ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

SINGLE, RANGES = 200, 5_000


class _OneByOne(Sender):
    """A sender such as a zrepl is."""

    @property
    def moves_ranges(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    streams: int
    processes: int
    """On the side that has more of them."""


def measure() -> list[Figure]:
    single = trio.run(_catch_up, _OneByOne, SINGLE)
    ranges = trio.run(_catch_up, Sender, RANGES)
    per_snapshot = single.seconds / SINGLE, ranges.seconds / RANGES
    note = (
        f"{1000 * per_snapshot[0]:.0f} ms a snapshot, {single.processes / SINGLE:.1f} zfs processes a"
        f" side; by ranges {1000 * per_snapshot[1]:.1f} ms, in {ranges.streams} streams"
    )
    return [
        Figure(
            f"seconds a snapshot, {SINGLE} one by one / {RANGES:,} by ranges",
            (per_snapshot[0] / per_snapshot[1],),
            30,
            at_most=False,
            note=note,
        ),
        Figure(
            "zfs processes a range and side",
            (ranges.processes / ranges.streams,),
            12,
            at_most=True,
        ),
    ]


async def _catch_up(sender: type[Sender], count: int) -> _Run:
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name:
        sides = {}
        for side, pool in (("source", "tank"), ("target", "backup")):
            sandbox = Sandbox(Path(name) / side)
            disk = sandbox.directory / "disk"
            disk.touch()
            os.truncate(disk, 1 << 30)
            POOL_COMMANDS["create"](Store(str(sandbox.directory)), [pool, str(disk)])
            sides[side] = sandbox
        store = Store(str(sides["source"].directory))
        COMMANDS["create"](store, ["tank/data"])
        data = sides["source"].directory / "tank" / "data"
        for number in range(count + 1):
            (data / "counter").write_text(str(number))
            COMMANDS["snapshot"](store, [f"tank/data@{number:05}"])
        calls: Counter[str] = Counter()
        async with open_processes() as processes:
            source, target = (
                CliZfs(processes, zfs=_counted(sides[side], calls_to=Path(name) / f"{side}.calls"))
                for side in sides
            )
            await source.features()
            await target.features()
            for side in sides:
                (Path(name) / f"{side}.calls").write_text("")
            began = time.monotonic()
            report = await replicate(
                sender(source, job="s", filesystems=FilesystemFilter.of({"tank/data": True})),
                Receiver(
                    target,
                    job="r",
                    root=DatasetPath("backup"),
                    placeholder_encryption=PlaceholderEncryption.INHERIT,
                ),
                ReplicationOptions(initial=InitialReplication.ALL),
                report=lambda _report: None,
                clock=SystemClock(),
                decode_token=target.decode_token,
            )
            seconds = time.monotonic() - began
        if report.outcome is not Outcome.DONE:
            raise RuntimeError(f"the replication ended with {report.outcome}: {report.error}")
        words = {side: (Path(name) / f"{side}.calls").read_text().split() for side in sides}
        calls.update(words["target"])
        return _Run(
            seconds=seconds,
            streams=calls["recv"],
            processes=max(len(each) for each in words.values()),
        )


def _counted(sandbox: Sandbox, *, calls_to: Path) -> str:
    """The emulated zfs behind a script that notes each command."""
    script = sandbox.directory / "counted-zfs"
    script.write_text(f'#!/bin/sh\necho "$1" >>{calls_to}\nexec {sandbox.zfs} "$@"\n')
    script.chmod(0o755)
    return str(script)
