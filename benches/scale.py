"""Many filesystems with many snapshots and nothing new: in one process, and by two daemons.

`zfs` is a script that prints listings made before, so only what we do about them is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from benches.daemons import IDENTITY, SOURCE_JOB, cpu_s, installed_command, running_daemon
from benches.listings import write_listings
from benches.measure import Figure
from benches.pull import PULL_JOB, run_once
from zrepl_trio.children import open_processes
from zrepl_trio.control.client import open_control_client
from zrepl_trio.demo.openssh import running_sshd

ROUNDS = 3
_SCRIPT = Path(__file__).with_name("listzfs.sh").resolve()


def measure() -> list[Figure]:
    figures = _in_one_process(10_000, 100)
    figures += trio.run(_by_daemons, 10_000, 100, 15.0)
    figures += trio.run(_by_daemons, 1_000, 100, 2.0)
    return figures


def _in_one_process(filesystems: int, snapshots: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name:
        state = Path(name)
        write_listings(state, filesystems=filesystems, snapshots=snapshots)
        for side in ("source", "puller"):
            (state / f"zfs-{side}").symlink_to(_SCRIPT)
        argv = [sys.executable, "-m", "benches.plan_stage", name]
        env = {**os.environ, "BENCH_STATE": name}
        found = []
        for _ in range(ROUNDS):
            done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
            found.append([float(word) for word in done.stdout.split()])
    what = f"listing text to plan, {filesystems:,} x {snapshots}, one process"
    return [
        Figure(f"{what}: CPU-s", tuple(each[1] for each in found), 7.0, at_most=True),
        Figure(f"{what}: MiB", tuple(each[2] for each in found), 600.0, at_most=True),
    ]


async def _by_daemons(filesystems: int, snapshots: int, bar: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name:
        home = Path(name)
        (home / "ssh").mkdir(mode=0o700)
        (home / "state").mkdir()
        write_listings(home / "state", filesystems=filesystems, snapshots=snapshots)
        command = installed_command()
        proxy = f"{command} stdinserver --sockdir {home}/source/stdinserver {IDENTITY}"
        async with (
            open_processes() as processes,
            running_sshd(processes, home / "ssh", proxy) as ssh,
        ):
            source = SOURCE_JOB.format(identity=IDENTITY).replace('"bench"', '"bench<"')
            pull = PULL_JOB.format(login=ssh.login, options=[*ssh.login.options])
            async with (
                running_daemon(processes, command, home, "source", source, zfs=_SCRIPT) as sender,
                running_daemon(processes, command, home, "puller", pull, zfs=_SCRIPT) as puller,
                open_control_client(f"{home}/puller/control") as control,
            ):
                cpu, calls = [], []
                for _ in range(ROUNDS):
                    for side in ("source", "puller"):
                        (home / "state" / f"{side}.calls").write_text("")
                    before = cpu_s(sender.pid) + cpu_s(puller.pid)
                    await run_once(control)
                    cpu.append(cpu_s(sender.pid) + cpu_s(puller.pid) - before)
                    calls += [
                        len((home / "state" / f"{side}.calls").read_text().split())
                        for side in ("source", "puller")
                    ]
    what = f"nothing new, {filesystems:,} x {snapshots}, through ssh"
    return [
        Figure(f"{what}: CPU-s of both daemons", tuple(cpu), bar, at_most=True),
        Figure(f"{what}: zfs processes a side", tuple(calls), 2, at_most=True),
    ]
