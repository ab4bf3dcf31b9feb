"""Real daemons for the benches, on a `zfs` that costs next to nothing."""

from __future__ import annotations

import os
import shutil
import stat
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from zrepl_trio.control.client import ControlClient, open_control_client
from zrepl_trio.process import Child, Processes

IDENTITY = "puller"
FAKE_ZFS = Path(__file__).with_name("fakezfs.sh").resolve()

_GLOBAL = """\
global:
  logging: [{{type: stdout, level: warn, format: human}}]
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
jobs:
"""
SOURCE_JOB = """\
- name: source
  type: source
  filesystems: {{"bench": true}}
  snapshotting: {{type: manual}}
  serve: {{type: stdinserver, client_identities: [{identity}]}}
"""


def installed_command() -> str:
    """The command beside this interpreter."""
    command = shutil.which("zrepl-trio", path=sysconfig.get_path("scripts"))
    if command is None:
        raise RuntimeError("zrepl-trio is not installed beside this interpreter: make install")
    return command


@asynccontextmanager
async def running_daemon(
    processes: Processes,
    command: str,
    home: Path,
    side: str,
    jobs: str,
    size: int = 0,
    *,
    zfs: Path = FAKE_ZFS,
) -> AsyncIterator[Child]:
    """`zrepl-trio run` with those jobs on `zfs`, in `home/side`; `size` bytes a send."""
    directory = home / side
    directory.mkdir(mode=0o700)
    programs, state = home / "bin", home / "state"
    for made in (programs, state):
        made.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (programs / "zfs").symlink_to(zfs)
    path = directory / "zrepl.yml"
    path.write_text(_GLOBAL.format(directory=directory) + jobs)
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BENCH_SIDE": side,
        "BENCH_STATE": str(state),
        "BENCH_BYTES": str(size),
    }
    argv = [command, "--config", str(path), "run"]
    async with processes.open(argv, env=env, grace_s=5) as child:
        socket = directory / "control"
        with trio.fail_after(20):
            while not (socket.exists() and stat.S_ISSOCK(socket.stat().st_mode)):  # noqa: ASYNC110
                await trio.sleep(0.05)
            async with open_control_client(str(socket)) as control:
                while await _some_job_starts(control):  # noqa: ASYNC110
                    await trio.sleep(0.05)
        try:
            yield child
        finally:
            if child.stderr_tail:
                print(child.stderr_tail.decode(errors="replace"))


def cpu_s(pid: int) -> float:
    """User and system time of the process itself, its children not counted (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _some_job_starts(control: ControlClient) -> bool:
    status = await control.status()
    return any(status.job(name).phase == "starting" for name in status.raw_jobs)
