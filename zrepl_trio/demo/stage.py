"""Two pretended hosts joined by ssh: `source` has the data, `backup` fetches it.

All of it, configs, keys, pools, sockets, logs, is below one directory of the caller's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from zrepl_trio.children import open_processes
from zrepl_trio.config.checks import MAX_SOCKET_PATH
from zrepl_trio.demo import weak_link
from zrepl_trio.demo.host import Host
from zrepl_trio.demo.openssh import SshLogin, find_sshd, install_standin, running_sshd
from zrepl_trio.emulate.sandbox import Sandbox
from zrepl_trio.errors import Refused
from zrepl_trio.transport.privatedir import ensure_private_directory
from zrepl_trio.transport.sshargs import SshTarget, ssh_argv

__all__ = ["IDENTITY", "Link", "Stage", "check_place", "open_stage", "sshd_problem"]

IDENTITY = "backup.example.com"

_SOURCE_JOBS = """\
- name: source
  type: source
  serve:
    type: stdinserver
    client_identities: ["{identity}"]
  filesystems: {{"tank/data<": true}}
  snapshotting: {{type: manual}}
"""

_PULL_JOBS = """\
- name: pull
  type: pull
  root_fs: storage/backups
  interval: {interval}
  recv: {{placeholder: {{encryption: inherit}}}}
  connect:
    type: ssh+stdinserver
    host: "{login.host}"
    user: "{login.user}"
    port: {login.port}
    identity_file: {login.identity_file}
    options:{options}
  pruning:
    keep_sender: [{{type: regex, regex: ".*"}}]
    keep_receiver: [{{type: regex, regex: ".*"}}]
"""


def check_place(directory: Path) -> None:
    """Refused when no stage can be set up in `directory`, which is ours and private: when it is too
    deep for the sockets, or others may swap it for another."""
    host = Host(name="source", directory=directory / "source", env={})
    longest = len(os.fsencode(host.sockdir / IDENTITY))
    if longest > MAX_SOCKET_PATH:
        raise Refused(
            f"{directory} is too long a path: sockets in it would have {longest} bytes, of "
            f"{MAX_SOCKET_PATH} possible; name a shorter place by --keep DIR, or a shorter TMPDIR"
        )
    ensure_private_directory(str(directory))


@dataclass(frozen=True, slots=True)
class Link:
    """The weak link's directory; see `weak_link` for what may be planned."""

    directory: Path

    def plan(self, what: str) -> None:
        """`cut N` or `stall N` for the next connection that gets as far as N bytes."""
        (self.directory / "plan").write_text(f"{what}\n")

    def count(self) -> None:
        """Count all connections from now on."""
        (self.directory / "count").touch()

    @property
    def received(self) -> dict[int, int]:
        """Bytes that came over each counted connection that has ended, by its ssh's pid."""
        return {
            int(path.suffix[1:]): int(path.read_text())
            for path in self.directory.glob("received.*")
            if path.suffix[1:].isdigit()
        }

    @property
    def stalled(self) -> Path:
        """Exists while a connection is stalled; holds the pid of its ssh."""
        return self.directory / "stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The hosts at rest, pools made, the link in place; `sshd_pid` None with the stand-in."""

    source: Host
    backup: Host
    link: Link
    ssh: str
    sshd_pid: int | None


def _own_command() -> str:
    """How sshd starts us: our console script where there is one, as an admin would write it."""
    script = Path(sys.executable).with_name("zrepl-trio")
    if script.exists():
        return shlex.quote(str(script))
    # sshd gives the command an environment of its own.
    path = os.environ.get("PYTHONPATH")
    setting = f"PYTHONPATH={shlex.quote(path)} " if path else ""
    return setting + shlex.join([sys.executable, "-m", "zrepl_trio"])


def _install_link(directory: Path, ssh: str) -> Path:
    """Put the weak link, on top of `ssh`, into a directory for PATH; that directory."""
    programs = directory / "bin"
    programs.mkdir(parents=True)
    words = [sys.executable, "-I", "-S", weak_link.__file__, str(directory), ssh]
    script = programs / "ssh"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    return programs


def _host(directory: Path, name: str, path: list[Path]) -> Host:
    home = directory / name
    home.mkdir(mode=0o700)
    env = {
        "PATH": ":".join([*map(str, path), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        # So that whoever looks for what the demo left behind can tell what was the demo's.
        "ZREPL_TRIO_DEMO": str(directory),
    }
    for variable in ("PYTHONPATH", "PYTHONHOME"):
        if variable in os.environ:
            env[variable] = os.environ[variable]
    return Host(name=name, directory=home, env=Sandbox(home / "pools").environment(env))


@asynccontextmanager
async def open_stage(
    directory: Path, *, use_sshd: bool, interval: str = "manual"
) -> AsyncIterator[Stage]:
    """Set everything up below `directory` (ours, private, with a short path).

    The block ends sshd; the daemons are the caller's (`Host.daemon`). Raises Refused when
    `use_sshd` and there is no sshd, ConfigErrors or HostCommandFailed when the setup fails.
    """
    link = directory / "link"
    ssh_home = directory / "ssh"
    for path in (link, ssh_home):
        path.mkdir(mode=0o700)
    source = _host(directory, "source", [])
    backup = _host(directory, "backup", [link / "bin"])
    forced = f"{_own_command()} stdinserver --sockdir {shlex.quote(str(source.sockdir))} {IDENTITY}"
    async with AsyncExitStack() as stack:
        sshd_pid = None
        if use_sshd:
            processes = await stack.enter_async_context(open_processes())
            sshd = await stack.enter_async_context(running_sshd(processes, ssh_home, forced))
            login, sshd_pid = sshd.login, sshd.pid
            ssh = f"OpenSSH, its own sshd on {login.host}:{login.port}"
        else:
            login = install_standin(ssh_home, forced)
            ssh = "a stand-in for ssh that runs the forced command"
        _install_link(link, shutil.which(login.ssh_command) or login.ssh_command)
        source.write_config(_SOURCE_JOBS.format(identity=IDENTITY))
        backup.write_config(_pull_jobs(login, interval))
        yield Stage(source=source, backup=backup, link=Link(link), ssh=ssh, sshd_pid=sshd_pid)


def _pull_jobs(login: SshLogin, interval: str) -> str:
    options = "".join(f'\n    - "{option}"' for option in login.options) or " []"
    return _PULL_JOBS.format(login=login, options=options, interval=interval)


async def sshd_problem(directory: Path) -> str:
    """Why OpenSSH's server cannot be used by us here; empty when a login on one works.

    It may be missing, or refuse our account (locked, say). `directory` is ours and empty.
    """
    if find_sshd() is None:
        return "OpenSSH's sshd, ssh and ssh-keygen are not all installed"
    problem = ""
    try:
        async with open_processes() as processes, running_sshd(processes, directory, "id") as sshd:
            login = sshd.login
            target = SshTarget(
                host=login.host,
                user=login.user,
                port=login.port,
                identity_file=str(login.identity_file),
                options=login.options,
            )
            done = await processes.run(ssh_argv(target), env={})
            if done.status != 0:
                said = done.stderr.decode("utf-8", "replace").strip()
                problem = f"OpenSSH's sshd does not let us in: {said}"
    except* Refused as group:
        problem = str(group.exceptions[0])
    return problem
