"""One simulation in a process of its own: `simulate_stage DAYS direct|wire [profile]` prints its CPU seconds and
how many runs there were."""

from __future__ import annotations

import cProfile
import gc
import pstats
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from zrepl_trio.simulate.hosts import load_hosts
from zrepl_trio.simulate.joining import join_all
from zrepl_trio.simulate.report import SimulationReport
from zrepl_trio.simulate.simulation import Setup, simulate

SOURCE = """
jobs:
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [backup]}
  filesystems: {"tank/a": true, "tank/b": true, "tank/c": true, "tank/d": true, "tank/e": true}
  snapshotting: {type: periodic, interval: 10m, prefix: zrepl_}
"""

# the rules of conf/push.yml
PULL = """
jobs:
- name: pull
  type: pull
  root_fs: storage/backups
  interval: 10m
  recv: {placeholder: {encryption: inherit}}
  connect: {type: ssh+stdinserver, host: app, user: root, port: 22, identity_file: /k}
  pruning:
    keep_sender:
    - {type: not_replicated}
    - {type: last_n, count: 10}
    keep_receiver:
    - {type: grid, grid: 1x1h(keep=all) | 24x1h | 30x1d | 6x30d, regex: "^zrepl_"}
"""


def main(days: float, *, wire: bool, profile: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name:
        for host, text in (("app", SOURCE), ("backup", PULL)):
            (Path(name) / f"{host}.yml").write_text(text)
        hosts = load_hosts([f"{name}/app.yml", f"{name}/backup.yml"])
    setup = Setup(
        hosts=hosts,
        joins=join_all(hosts),
        start=datetime(2026, 1, 1, tzinfo=UTC),
        lasts_s=int(days * 86400),
        zone=UTC,
        wire=wire,
    )
    gc.set_threshold(100_000, 50, 100)  # as the command does
    profiler = cProfile.Profile()
    before = time.process_time()
    report: SimulationReport = profiler.runcall(simulate, setup) if profile else simulate(setup)
    cpu_s = time.process_time() - before
    (link,) = report.links
    assert not report.troubles, report.troubles
    assert link.runs > days * 140
    print(cpu_s, link.runs)
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main(float(sys.argv[1]), wire=sys.argv[2] == "wire", profile="profile" in sys.argv[3:])
