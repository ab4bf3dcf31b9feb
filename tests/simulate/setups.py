"""Configs of a source and a puller, and runs of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from zrepl_trio.simulate.hosts import SimulatedHost, load_hosts
from zrepl_trio.simulate.joining import JoinSpec, join_all
from zrepl_trio.simulate.outages import parse_outage
from zrepl_trio.simulate.report import DatasetStory, SimulationReport
from zrepl_trio.simulate.simulation import Setup, simulate
from zrepl_trio.simulate.workload import parse_workload

DAY_S = 86400
HOUR_S = 3600

START = datetime(2026, 1, 1, tzinfo=UTC)

SOURCE = """
jobs:
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [backup]}
  filesystems: {"tank/a": true, "tank/b": true}
  snapshotting: {type: periodic, interval: 1h, prefix: zrepl_}
"""

PULL = """
jobs:
- name: pull
  type: pull
  root_fs: storage/backups
  interval: 1h
  recv: {placeholder: {encryption: inherit}}
  connect: {type: ssh+stdinserver, host: app.example.com, user: root, port: 22, identity_file: /k}
  pruning:
    keep_sender: [{type: regex, regex: ".*"}]
    keep_receiver: [{type: regex, regex: ".*"}]
"""

SNAP = """
jobs:
- name: snap
  type: snap
  filesystems: {"tank<": true}
  snapshotting: {type: periodic, interval: 6h, prefix: zrepl_}
  pruning: {keep: [{type: regex, regex: "."}]}
"""


def hosts_of(directory: Path, **configs: str) -> list[SimulatedHost]:
    """A host for each config, by its name."""
    for name, text in configs.items():
        (directory / f"{name}.yml").write_text(text)
    return load_hosts([str(directory / f"{name}.yml") for name in configs])


def run(
    hosts: Sequence[SimulatedHost],
    *,
    days: float = 1,
    seed: int = 1,
    wire: bool = False,
    workloads: Sequence[str] = (),
    outages: Sequence[str] = (),
    joins: Sequence[JoinSpec] = (),
    log: io.StringIO | None = None,
) -> SimulationReport:
    """From the first of January on."""
    names = [host.name for host in hosts]
    return simulate(
        Setup(
            hosts=hosts,
            joins=join_all(hosts, joins),
            start=START,
            lasts_s=int(days * DAY_S),
            zone=UTC,
            seed=seed,
            wire=wire,
            workloads=[parse_workload(text) for text in workloads],
            outages=[parse_outage(text, names) for text in outages],
            log=log,
        )
    )


def story(report: SimulationReport, host: str, dataset: str) -> DatasetStory:
    """Of that dataset there."""
    (found,) = (s for s in report.datasets if (s.host, s.dataset) == (host, dataset))
    return found
