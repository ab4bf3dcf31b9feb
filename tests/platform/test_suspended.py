"""A pool that zfs has suspended: its commands hang in the kernel, where no signal reaches them.

The run that meets one ends with an error, and the daemon goes on with all else.
"""

from __future__ import annotations

import itertools
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.interop.daemons import NEVER, Daemon, ours, running
from tests.interop.pools import World
from tests.interop.scenarios import done
from tests.interop.waiting import until
from tests.platform.suspended import INSIDE, POOL, SickPool, asleep, pool_inside, sick_pool
from tests.support.hosts import scratch

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

MIB = 2**20
ANSWER_S = 20.0
"""How long `zrepl-trio status` may take: the guest needs some seconds to start any command."""
STOP_S = 20.0
"""Longest stop while nobody waits for what hangs, in a slow guest."""

CONFIG = """\
global:
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
  logging: [{{type: stdout, level: info, format: human}}]
  zfs: {{command_timeout: 4s, stream_timeout: 4s}}
jobs:
- name: source
  type: source
  serve: {{type: local, listener_name: here}}
  filesystems: {{"{dataset}": true}}
  snapshotting: {{type: manual}}
- name: hangs
  type: pull
  root_fs: ztsick/replicas
  interval: manual
  connect: {{type: local, listener_name: here, client_identity: one}}
  recv: {{placeholder: {{encryption: inherit}}}}
  pruning: {{keep_sender: [{{type: regex, regex: ".*"}}], keep_receiver: [{{type: regex, regex: ".*"}}]}}
- name: goes_on
  type: pull
  root_fs: {healthy}
  interval: manual
  connect: {{type: local, listener_name: here, client_identity: two}}
  recv: {{placeholder: {{encryption: inherit}}}}
  pruning: {{keep_sender: [{{type: regex, regex: ".*"}}], keep_receiver: [{{type: regex, regex: ".*"}}]}}
- name: prunes
  type: snap
  filesystems: {{"ztsick/files": true}}
  snapshotting: {{type: cron, cron: "0 0 1 1 *", prefix: taken_}}
  pruning: {{keep: [{{type: last_n, count: 1, regex: ".*"}}]}}
- name: prunes_inside
  type: snap
  filesystems: {{"ztinside/files": true}}
  snapshotting: {{type: cron, cron: "0 0 1 1 *", prefix: taken_}}
  pruning: {{keep: [{{type: last_n, count: 1, regex: ".*"}}]}}
"""
FILES = f"{POOL}/files"
_names = (f"sick{number}" for number in itertools.count(1))


@dataclass(frozen=True)
class Host:
    """A daemon whose jobs `hangs` and `prunes` write to the pool; `dataset` is what `hangs` and
    `goes_on` replicate."""

    world: World
    pool: SickPool
    dataset: str
    daemon: Daemon

    def snapshot(self, name: str, mib: int) -> None:
        self.write(self.dataset, mib)
        self.world.run("zfs", "snapshot", f"{self.dataset}@{name}")

    def write(self, dataset: str, mib: int) -> None:
        content = random.Random(mib).randbytes(mib * MIB)
        (self.world.files(dataset) / f"{mib}mib").write_bytes(content)

    def end_of_run(self, job: str) -> dict[str, Any]:
        """Of the one that goes on."""

        def over() -> dict[str, Any] | None:
            told = invocation(self.daemon, job)
            return told if told["FinishAt"] != NEVER else None

        return until(over, f"the run of {job} ends")

    def run(self, job: str) -> dict[str, Any]:
        """Wake the job; how its run ended."""
        self.daemon.wake(job)
        return self.end_of_run(job)

    def stop(self, limit_s: float = STOP_S) -> None:
        """As systemd does it."""
        self.daemon.process.terminate()
        assert self.daemon.process.wait(limit_s) == 0, self.daemon.log()

    @contextmanager
    def started_again(self) -> Iterator[Host]:
        program, directory = self.daemon.program, self.daemon.directory
        with running(program, directory, self.world.environment) as daemon:
            yield replace(self, daemon=daemon)

    def status(self) -> str:
        """What `zrepl-trio status` prints, which it must do soon."""
        config = str(self.daemon.directory / "zrepl.yml")
        words = [*self.daemon.program.argv, "--config", config, "status"]
        return subprocess.run(
            words, env=self.world.environment, stdout=subprocess.PIPE, timeout=ANSWER_S, check=True
        ).stdout.decode()


def invocation(daemon: Daemon, job: str) -> dict[str, Any]:
    status = daemon.jobs()[job]
    told: dict[str, Any] = status[status["type"]]["Invocation"]
    return told


@pytest.fixture
def pool() -> Iterator[SickPool]:
    with scratch() as directory, sick_pool(directory) as made:
        yield made
    assert not asleep()


@pytest.fixture
def host(world: World, pool: SickPool) -> Iterator[Host]:
    name = next(_names)
    dataset, healthy = f"zisource/{name}", f"zibackup/{name}"
    for made in (dataset, healthy, f"{POOL}/replicas", FILES):
        world.run("zfs", "create", made)
    with scratch() as directory:
        (directory / "stdinserver").mkdir(mode=0o700)
        config = CONFIG.format(directory=directory, dataset=dataset, healthy=healthy)
        (directory / "zrepl.yml").write_text(config)
        with running(ours(), directory, world.environment) as daemon:
            yield Host(world, pool, dataset, daemon)


TAKEN = [f"taken_2026010{day}_000000_000" for day in (1, 2, 3)]


def takes_snapshots(host: Host, dataset: str) -> str:
    """Two of which the pruning jobs destroy; the words of that command."""
    for name in TAKEN:
        host.world.run("zfs", "snapshot", f"{dataset}@{name}")
    return f"destroy {dataset}@{TAKEN[0]},{TAKEN[1]}"


def test_a_pool_that_hangs_without_an_error(host: Host) -> None:
    files = f"{INSIDE}/files"
    host.snapshot("1", 1)
    with pool_inside(host.pool):
        host.world.run("zfs", "create", files)
        command = takes_snapshots(host, files)
        host.pool.fill()
        host.daemon.wake("prunes_inside")
        until(lambda: host.pool.is_suspended, "what is below hangs", 30)
        told = goes_on_meanwhile(host, "prunes_inside", command)
        assert told["Outcome"] != "done"
        assert f"{files}: `zfs {command}` did nothing for 4 s" in told["Error"]

        # another would hang as well, so none is started
        told = host.run("prunes_inside")
        assert told["Outcome"] != "done"
        assert f"{files}: an earlier `zfs destroy` (pid " in told["Error"]
        assert "ignores SIGKILL" in told["Error"]
        assert asleep() == [command]

        host.stop()
        assert asleep() == [command]
        host.pool.mend()
        until(lambda: not asleep(), "what hung ends")
        with host.started_again() as again:
            told = again.run("prunes_inside")
            assert told["Outcome"] == "done", told
            assert list(again.world.snapshots(files)) == TAKEN[2:]


@pytest.mark.thorough
def test_a_destroy_that_no_signal_reaches(host: Host) -> None:
    host.snapshot("1", 1)
    command = takes_snapshots(host, FILES)
    host.pool.fill()
    host.write(FILES, 8)
    host.daemon.wake("prunes")
    until(host.pool.hung, "a zfs hangs", 30)
    told = goes_on_meanwhile(host, "prunes", command)
    assert told["Outcome"] != "done"
    assert f"{FILES}: `zfs {command}` did nothing for 4 s" in told["Error"]
    # zfs itself starts nothing on a suspended pool
    told = host.run("prunes")
    assert told["Outcome"] != "done"
    assert FILES in told["Error"]
    assert "`zpool clear` has it go on" in told["Error"]
    assert asleep() == [command]

    # the daemon that had it run notices its end
    host.pool.mend()
    until(lambda: not asleep(), "what hung ends")
    assert host.run("prunes")["Outcome"] == "done"
    assert list(host.world.snapshots(FILES)) == TAKEN[2:]


def goes_on_meanwhile(host: Host, job: str, command: str) -> dict[str, Any]:
    """Another job's run, and `status`, while that job's command hangs; how that job's run ended."""
    assert job in host.status()
    done(host.daemon.replicate("goes_on"))
    told = host.end_of_run(job)
    assert asleep() == [command]
    shown = host.status()
    assert "ignore SIGKILL" in shown
    assert f"zfs {command}"[:40] in shown
    return told


@pytest.mark.thorough  # a `zfs recv` has 25 s to end
def test_a_receive_that_no_signal_reaches(host: Host) -> None:
    replica = f"{POOL}/replicas/{host.dataset}"
    host.snapshot("1", 1)
    assert host.run("hangs")["Outcome"] == "done"
    host.snapshot("2", 8)
    host.pool.fill()
    host.daemon.wake("hangs")
    (stuck,) = until(host.pool.hung, "a zfs hangs", 30)
    assert stuck.startswith("recv ")

    told = goes_on_meanwhile(host, "hangs", stuck)
    assert told["Outcome"] == "filesystem-errors"
    assert f"{replica}: `zfs recv " in told["Error"]
    assert "did nothing for 4 s" in told["Error"]
    assert "`zpool status`" in told["Error"]
    told = host.run("hangs")
    assert told["Outcome"] == "failed"
    assert f"{POOL}/replicas" in told["Error"]
    assert "`zpool clear` has it go on" in told["Error"]
    assert asleep() == [stuck]

    host.pool.mend()
    until(lambda: not asleep(), "what hung ends")
    assert host.run("hangs")["Outcome"] == "done"
    assert list(host.world.snapshots(replica)) == ["1", "2"]
    assert "ignore SIGKILL" not in host.status()


@pytest.mark.thorough
def test_a_daemon_that_stops_while_a_command_hangs(host: Host) -> None:
    host.snapshot("1", 8)
    host.pool.fill()
    host.daemon.wake("hangs")
    until(host.pool.hung, "a zfs hangs", 30)
    host.stop(limit_s=60)
    assert len(asleep()) == 1
    host.pool.mend()
    until(lambda: not asleep(), "what hung ends")
    with host.started_again() as again:
        assert again.run("hangs")["Outcome"] == "done"
