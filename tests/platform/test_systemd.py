"""The unit under a real systemd, on real OpenZFS: readiness, the sandbox with zfs and ssh in it, the
watchdog. systemd is the first process of a PID namespace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.interop.sshd import Sshd, running_sshd
from tests.interop.waiting import until
from tests.platform.conftest import Pool, run, text
from tests.support.docs import ROOT

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/lib/systemd/systemd").exists(), reason="there is no systemd"),
]

UNIT = "zrepl-trio"
OURS = "/usr/local/bin/zrepl-trio"
INIT = """\
set -e
mkdir -p /sys/fs/cgroup
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs etc /etc/systemd/system
mkdir /etc/systemd/system/zrepl-trio.service.d
cp {unit} /etc/systemd/system/
printf '[Service]\\nWatchdogSec=20\\nTimeoutAbortSec=5\\n' > /etc/systemd/system/zrepl-trio.service.d/test.conf
exec env -i container=test PATH="$PATH" /lib/systemd/systemd --system --unit=basic.target --show-status=false
"""
JOBS = """\
- name: here
  type: source
  serve: {{type: stdinserver, client_identities: [me]}}
  filesystems: {{"{dataset}<": true}}
  snapshotting: {{type: manual}}
- name: fetch
  type: pull
  root_fs: {root}
  interval: manual
  recv: {{placeholder: {{encryption: inherit}}}}
  connect:
    type: ssh+stdinserver
    host: 127.0.0.1
    user: {sshd.user}
    port: {sshd.port}
    identity_file: {sshd.identity_file}
    options: {options}
  pruning:
    keep_sender: [{{type: regex, regex: ".*"}}]
    keep_receiver: [{{type: regex, regex: ".*"}}]
"""


@dataclass(frozen=True)
class Systemd:
    """`pid` is its number out here."""

    pid: int

    def run(self, *argv: str, ok: bool = True) -> str:
        """The output of a command in there."""
        done = run("nsenter", "-t", str(self.pid), "-p", "-m", *argv, ok=ok)
        return done.stdout.decode().strip()

    def shown(self, name: str) -> str:
        return self.run("systemctl", "show", "-P", name, UNIT)

    def log(self) -> str:
        return self.run("systemctl", "status", "-l", "--no-pager", "-n", "100", UNIT, ok=False)

    def main(self) -> psutil.Process:
        """The unit's main process, by its number out here."""
        inner = self.shown("MainPID")
        for process in psutil.Process(self.pid).children(recursive=True):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if f"\t{inner}\n" in status.partition("NSpid:")[2].partition("\n")[0] + "\n":
                return process
        raise AssertionError(f"no process has the number {inner} in there")


@contextmanager
def booted(directory: Path) -> Iterator[Systemd]:
    script = directory / "init.sh"
    script.write_text(INIT.format(unit=ROOT / "conf/systemd/zrepl-trio.service"))
    with (directory / "systemd.log").open("wb") as log:
        outer = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--fork", "--kill-child", "bash", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:

        def up() -> int | None:
            for child in psutil.Process(outer.pid).children():
                if child.name() == "systemd":
                    state = Systemd(child.pid).run("systemctl", "is-system-running", ok=False)
                    return child.pid if state in {"running", "degraded"} else None
            return None

        yield Systemd(until(up, "systemd is up"))
    finally:
        outer.send_signal(signal.SIGKILL)
        outer.wait()


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    """Its files are where the sandbox lets ssh read them: not in /tmp."""
    home = Path("/root/zt-systemd")
    home.mkdir(mode=0o700)
    try:
        with running_sshd(home / "ssh") as made:
            yield made
    finally:
        shutil.rmtree(home)


def test_the_unit_runs_replicates_over_ssh_and_is_watched(
    pools: tuple[Pool, Pool], sshd: Sshd, tmp_path: Path
) -> None:
    dataset, root = pools[0].fresh(), pools[1].fresh()
    (pools[0].path(dataset) / "file").write_bytes(os.urandom(1 << 20))
    config = Path("/etc/zrepl/zrepl.yml")
    config.parent.mkdir(exist_ok=True)
    config.write_text(
        "global: {logging: [{type: stdout, level: info, format: human}]}\njobs:\n"
        + JOBS.format(dataset=dataset, root=root, sshd=sshd, options=list(sshd.options))
    )
    with booted(tmp_path) as systemd:
        # sshd is out here, so that it starts its commands there
        inside = f"nsenter -t {systemd.pid} -p -m {OURS} stdinserver me"
        sshd.force(inside)
        systemd.run("systemctl", "start", UNIT)
        assert systemd.shown("ActiveState") == "active"
        assert "up, jobs: 2" in systemd.shown("StatusText")
        assert systemd.run("stat", "-c", "%a", "/run/zrepl", "/run/zrepl/stdinserver") == "700\n700"

        for name in ("1", "2"):
            run("zfs", "snapshot", f"{dataset}@{name}")
            systemd.run(OURS, "signal", "wakeup", "fetch", "--wait")
        replica = f"{root}/{dataset}"
        listed = text("zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-d", "1", replica)
        assert listed.split() == [f"{replica}@1", f"{replica}@2"], systemd.log()

        hung = systemd.main()
        hung.suspend()
        until(lambda: systemd.shown("NRestarts") == "1", "the watchdog restarts it", 240)
        until(lambda: systemd.shown("ActiveState") == "active", "it is up again")
        assert not hung.is_running()
        run("zfs", "snapshot", f"{dataset}@3")
        systemd.run(OURS, "signal", "wakeup", "fetch", "--wait")
        assert run("zfs", "list", f"{replica}@3").returncode == 0

        systemd.run("systemctl", "stop", UNIT)
        assert systemd.shown("Result") == "success"
        assert systemd.shown("ActiveState") == "inactive"
        assert systemd.run("systemctl", "show", "-P", "TasksCurrent", UNIT) in {
            "",
            "[not set]",
            "0",
        }
