"""`python -m benches.plan_stage STATE`: plan what the listings in STATE have, in this one process.

Prints the CPU seconds that it took, children not counted, and the peak of its memory in MiB.
"""

from __future__ import annotations

import resource
import sys
from functools import partial
from pathlib import Path

from zrepl_trio.children import open_processes
from zrepl_trio.cli.running import run
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.replication.plan import FilesystemPlan
from zrepl_trio.replication.planning import plan_all
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath


async def main(state: Path) -> None:
    async with open_processes() as processes:
        source = CliZfs(processes, zfs=str(state / "zfs-source"))
        target = CliZfs(processes, zfs=str(state / "zfs-puller"))
        sender = Sender(source, job="source", filesystems=FilesystemFilter.of({"bench<": True}))
        receiver = Receiver(target, job="pull", root=DatasetPath("dst"))
        before = _cpu_s()
        planned = await plan_all(
            sender, receiver, options=ReplicationOptions(), decode_token=target.decode_token
        )
        after = _cpu_s()
    if not all(isinstance(plan, FilesystemPlan) and not plan.steps for plan in planned.plans):
        raise RuntimeError("something was planned though nothing is new")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(len(planned.plans), after - before, peak)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


run(partial(main, Path(sys.argv[1])))
