"""Side by side with a zrepl 0.7, whose binary ZREPL names: the same work for both, in turns.

Both use the emulated `zfs`, on the same pools and by the same config, whose holds and cursors they share. Where bulk
moves, `bulkzfs.sh` stands before it, which makes the streams large and neither slow; where nothing is new, `manyzfs.sh`, which prints
listings made before.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benches.daemons import cpu_s
from benches.listings import write_replicated
from benches.measure import GIB, Figure
from tests.interop.daemons import Daemon, Program, ours, running, theirs
from tests.interop.pools import World, two_pools
from tests.interop.sshd import Sshd, running_sshd

__all__ = ["measure"]

ROUNDS = 5
FILESYSTEMS, SNAPSHOTS = 1000, 20
IDENTITY = "puller"

_CONFIG = """\
global:
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
  logging: [{{type: stdout, level: warn, format: human}}]
jobs:
"""
_SOURCE = """\
- name: source
  type: source
  serve: {serve}
  filesystems: {{"{below}<": true}}
  snapshotting: {{type: manual}}
"""
_PULL = """\
- name: pull
  type: pull
  connect: {connect}
  root_fs: zibackup
  recv: {{placeholder: {{encryption: inherit}}}}
  interval: manual
  conflict_resolution: {{initial_replication: all}}
  replication: {{concurrency: {{steps: 2}}}}
  pruning: {{keep_sender: [{{type: regex, regex: ".*"}}], keep_receiver: [{{type: regex, regex: ".*"}}]}}
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: wall seconds of its replication by its own report, CPU seconds of both daemons until it has pruned, MiB at the most of the two together, zfs
    processes."""

    wall_s: float
    cpu_s: float
    mib: float
    calls: int


def measure() -> list[Figure]:
    if not os.environ.get("ZREPL"):
        print("\nside by side with a zrepl: skipped, ZREPL names no binary of zrepl 0.7")
        return []
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name, two_pools(Path(name)) as world:
        home = Path(name)
        (home / "state").mkdir()
        with running_sshd(home / "ssh") as sshd:
            figures = [
                figure
                for transport, bar in (("tcp", 1.2), ("ssh", 1.0))
                for figure in _bulk(home, world, sshd, transport, bar)
            ]
            return figures + _nothing_new(home, world, sshd)


def _bulk(home: Path, world: World, sshd: Sshd, transport: str, bar: float) -> list[Figure]:
    programs = home / "bin"
    programs.mkdir(exist_ok=True)
    zfs = shutil.which("zfs", path=world.environment["PATH"])
    assert zfs is not None
    shutil.copy(Path(__file__).with_name("bulkzfs.sh"), programs / "zfs")
    environment = {
        **world.environment,
        "PATH": f"{programs}:{world.environment['PATH']}",
        "BENCH_ZFS": zfs,
        "BENCH_STATE": str(home / "state"),
        "BENCH_BYTES": str(GIB),
    }
    dataset = f"zisource/bulk-{transport}"
    world.run("zfs", "create", dataset)
    taken = iter(range(10_000))

    def snapshot() -> None:
        world.run("zfs", "snapshot", f"{dataset}@zrepl_{next(taken):05}")

    pairs = _in_turns(home, environment, sshd, transport, dataset, before=snapshot, rounds=ROUNDS)
    what = f"1 GiB over {transport}"
    return [
        Figure(
            f"{what}: throughput / zrepl's",
            tuple(two.wall_s / one.wall_s for one, two in pairs),
            bar,
            at_most=False,
            note=_told(pairs),
        ),
        _cpu(what, pairs),
    ]


def _nothing_new(home: Path, world: World, sshd: Sshd) -> list[Figure]:
    below = "zisource/many"
    state, programs = home / "many", home / "listing"
    for directory in (state, programs):
        directory.mkdir()
    write_replicated(state, below, "zibackup", filesystems=FILESYSTEMS, snapshots=SNAPSHOTS)
    for program in ("zfs", "zpool"):
        shutil.copy(Path(__file__).with_name("manyzfs.sh"), programs / program)
    environment = {
        **world.environment,
        "PATH": f"{programs}:{world.environment['PATH']}",
        "BENCH_STATE": str(state),
    }
    pairs = _in_turns(home, environment, sshd, "ssh", below, before=lambda: None, rounds=1)
    what = f"nothing new, {FILESYSTEMS:,} x {SNAPSHOTS}, through ssh"
    return [
        Figure(
            f"{what}: wall / zrepl's",
            tuple(one.wall_s / two.wall_s for one, two in pairs),
            0.25,
            at_most=True,
            note=_told(pairs),
        ),
        _cpu(what, pairs),
    ]


def _cpu(what: str, pairs: Sequence[tuple[_Run, _Run]]) -> Figure:
    ratios = tuple(one.cpu_s / two.cpu_s for one, two in pairs)
    return Figure(f"{what}: CPU-s of both daemons / zrepl's", ratios, 0.5, at_most=True)


def _told(pairs: Sequence[tuple[_Run, _Run]]) -> str:
    def of(runs: Sequence[_Run]) -> str:
        middle = sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
        return (
            f"{middle.wall_s:.2f} s, {middle.cpu_s:.2f} CPU-s, {middle.mib:.0f} MiB, "
            f"{middle.calls} zfs processes"
        )

    return f"ours {of([one for one, _ in pairs])}; zrepl {of([two for _, two in pairs])}"


def _in_turns(
    home: Path,
    environment: dict[str, str],
    sshd: Sshd,
    transport: str,
    below: str,
    *,
    before: Callable[[], None],
    rounds: int,
) -> list[tuple[_Run, _Run]]:
    """As many pairs of runs, ours first."""
    found = []
    calls = Path(environment["BENCH_STATE"]) / "calls"
    for _ in range(rounds):
        runs = []
        for program in (ours(), theirs()):
            before()
            with _pair(home, environment, sshd, program, transport, below) as (passive, active):
                runs.append(_measured(calls, passive, active))
        found.append((runs[0], runs[1]))
    return found


def _measured(calls: Path, passive: Daemon, active: Daemon) -> _Run:
    calls.write_text("")
    pids = [daemon.process.pid for daemon in (passive, active)]
    cpu = sum(map(cpu_s, pids))
    # to be asked costs a daemon a millisecond or two, which nobody asks for twenty times a second
    report = active.replicate("pull", 3600, pause_s=0.5)
    active.pruned("pull")
    last = report["Attempts"][-1]
    failed = [fs for fs in last["Filesystems"] if fs["PlanError"] or fs["StepError"]]
    if last["PlanError"] or failed:
        raise RuntimeError(f"{active.program.name} failed: {last['PlanError']} {failed[:1]}")
    return _Run(
        wall_s=_time(last["FinishAt"]) - _time(report["StartAt"]),
        cpu_s=sum(map(cpu_s, pids)) - cpu,
        mib=sum(map(_peak_mib, pids)),
        calls=len(calls.read_text().split()),
    )


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _peak_mib(pid: int) -> float:
    """The most that was ever in memory (proc(5), VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} tells no peak of its memory")


@contextmanager
def _pair(
    home: Path,
    environment: dict[str, str],
    sshd: Sshd,
    program: Program,
    transport: str,
    below: str,
) -> Iterator[tuple[Daemon, Daemon]]:
    """The source and the puller, up for the block."""
    at = {role: home / f"{program.name}-{role}" for role in ("passive", "active")}
    if transport == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        serve = f'{{type: tcp, listen: "127.0.0.1:{port}", clients: {{127.0.0.1: {IDENTITY}}}}}'
        connect = f'{{type: tcp, address: "127.0.0.1:{port}"}}'
    else:
        options = ", ".join(f'"{option}"' for option in sshd.options)
        serve = f"{{type: stdinserver, client_identities: [{IDENTITY}]}}"
        connect = (
            f"{{type: ssh+stdinserver, host: 127.0.0.1, user: {sshd.user}, port: {sshd.port}, "
            f"identity_file: {sshd.identity_file}, options: [{options}]}}"
        )
    jobs = {
        "passive": _SOURCE.format(serve=serve, below=below),
        "active": _PULL.format(connect=connect),
    }
    for role, directory in at.items():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        (directory / "stdinserver").mkdir(mode=0o700)
        (directory / "zrepl.yml").write_text(_CONFIG.format(directory=directory) + jobs[role])
    sshd.force(program.stdinserver(at["passive"] / "zrepl.yml", IDENTITY))
    with (
        running(program, at["passive"], environment) as passive,
        running(program, at["active"], environment) as active,
    ):
        yield passive, active
