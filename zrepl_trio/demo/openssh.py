"""A real OpenSSH server of our own, for the demo and the tests: on a free loopback port, with its
own keys, known_hosts and authorized_keys, as root or not, all in a directory of the caller's.

Nothing of the user's is read or changed: not ~/.ssh, not the system's sshd. (As root, OpenSSH
insists on its privilege separation directory; it is made if missing, and removed again.)
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from zrepl_trio.errors import Refused
from zrepl_trio.process import Processes

__all__ = ["OpenSsh", "SshLogin", "find_sshd", "install_standin", "running_sshd"]

_HOST = "127.0.0.1"
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin:/usr/libexec:/usr/lib/ssh"
_PRIVSEP_DIRECTORY = "/run/sshd"
_START_S = 10.0
_END_S = 2.0
_ATTEMPTS = 5

_CONFIG = """\
ListenAddress {host}:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
UsePAM {pam}
# The directory may lie below /tmp, which StrictModes takes for unsafe.
StrictModes no
PermitRootLogin forced-commands-only
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
LogLevel VERBOSE
MaxStartups 1000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshLogin:
    """What a pull job's `connect` section needs to log in."""

    host: str
    port: int
    user: str
    identity_file: Path
    options: tuple[str, ...]
    ssh_command: str = "ssh"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSsh:
    """A running sshd."""

    login: SshLogin
    pid: int
    directory: Path
    log: Path


def find_sshd() -> str | None:
    """The path of OpenSSH's server, with the client and ssh-keygen also there; None without."""
    if not (shutil.which("ssh") and shutil.which("ssh-keygen")):
        return None
    return shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


@asynccontextmanager
async def running_sshd(
    processes: Processes, directory: Path, forced_command: str
) -> AsyncIterator[OpenSsh]:
    """An sshd whose one key may run `forced_command` and nothing else; ended with the block, its
    sessions too. `directory` is ours, stays, and is to be private. Raises Refused if sshd is
    not installed or doesn't start, with its own words."""
    sshd = find_sshd()
    if sshd is None:
        raise Refused("OpenSSH's sshd, ssh and ssh-keygen are not all installed")
    login = await _write_keys(processes, directory, forced_command)
    with _privsep_directory():
        for attempt in range(1, _ATTEMPTS + 1):
            port = _free_port()
            log = directory / "sshd.log"
            _write_config(directory, port)
            argv = [sshd, "-D", "-f", f"{directory}/sshd_config", "-E", str(log)]
            async with processes.open(argv, grace_s=0.0) as child:
                if not await _up(port, log, child.wait):
                    if attempt < _ATTEMPTS:
                        continue  # somebody took the port
                    words = _read(log) or child.stderr_tail.decode("utf-8", "replace")
                    raise Refused(f"sshd does not start: {words.strip()}")
                known_hosts = directory / "known_hosts"
                host_key = (directory / "host_key.pub").read_text()
                known_hosts.write_text(f"[{_HOST}]:{port} {host_key}")
                try:
                    yield OpenSsh(
                        login=SshLogin(
                            host=_HOST,
                            port=port,
                            user=login.user,
                            identity_file=login.identity_file,
                            options=login.options,
                        ),
                        pid=child.pid,
                        directory=directory,
                        log=log,
                    )
                finally:
                    await _end_sessions(child.pid)  # noqa: ASYNC102 - shields itself
                return


async def _write_keys(processes: Processes, directory: Path, forced_command: str) -> SshLogin:
    for name in ("host_key", "identity"):
        done = await processes.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{directory}/{name}"]
        )
        if done.status != 0:
            raise Refused(f"ssh-keygen failed: {done.stderr.decode('utf-8', 'replace').strip()}")
    public = (directory / "identity.pub").read_text()
    quoted = forced_command.replace('"', '\\"')
    (directory / "authorized_keys").write_text(f'command="{quoted}",restrict {public}')
    return SshLogin(
        host=_HOST,
        port=0,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        identity_file=directory / "identity",
        options=(
            f"UserKnownHostsFile={directory}/known_hosts",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
        ),
    )


def _write_config(directory: Path, port: int) -> None:
    (directory / "sshd_config").write_text(
        _CONFIG.format(host=_HOST, port=port, directory=directory, pam="yes" if _locked() else "no")
    )


def _locked() -> bool:
    """Whether our account is locked (`!` in shadow), which sshd minds unless it leaves it to PAM."""
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False
    name = pwd.getpwuid(os.geteuid()).pw_name
    return any(line.startswith(f"{name}:!") for line in lines)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as server:
        return int(server.getsockname()[1])


async def _up(port: int, log: Path, wait: Callable[[], Awaitable[int]]) -> bool:
    """Whether sshd has come to listen; False when it ended instead."""
    listening = False
    async with trio.open_nursery() as nursery:

        async def ended() -> None:
            await wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(ended)
        with trio.move_on_after(_START_S):
            # Its own word for it: a connection could also be taken by another server.
            while f"Server listening on {_HOST} port {port}" not in _read(log):  # noqa: ASYNC110
                await trio.sleep(0.01)
            listening = True
        nursery.cancel_scope.cancel()
    return listening


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


@contextmanager
def _privsep_directory() -> Iterator[None]:
    """As root: the directory that sshd needs, made if missing, and removed if it was us who made
    it and nobody else (another of ours, the system's sshd) needs it by then."""
    if os.geteuid() != 0:
        yield
        return
    marker = f"{_PRIVSEP_DIRECTORY}/.made-by-zrepl-trio"
    fd = _locked_privsep_directory(marker)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(marker) and not _any_sshd():
                os.unlink(marker)
                os.rmdir(_PRIVSEP_DIRECTORY)
        os.close(fd)


def _locked_privsep_directory(marker: str) -> int:
    while True:
        with suppress(FileExistsError):
            os.mkdir(_PRIVSEP_DIRECTORY, 0o755)
            os.close(os.open(marker, os.O_CREAT | os.O_WRONLY, 0o600))
        try:
            fd = os.open(_PRIVSEP_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.stat(_PRIVSEP_DIRECTORY)):
                return fd
        os.close(fd)  # another of ours has just removed it


def _any_sshd() -> bool:
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and Path(f"/proc/{name}/comm").read_text().startswith("sshd"):
                return True
    return False


async def _end_sessions(listener: int) -> None:
    """Each session leads a process group of its own, out of the listener's reach."""
    pids = _descendants(listener)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    with trio.move_on_after(_END_S, shield=True):
        while any(_runs(pid) for pid in pids):  # noqa: ASYNC110 - not our children
            await trio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except OSError:
        return False


def _descendants(pid: int) -> list[int]:
    """The children of a process, their children and so on, from /proc; none where there is none."""
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError):
                    stat = Path(f"/proc/{name}/stat").read_text()
                    parent = int(stat.rpartition(")")[2].split()[1])
                    children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    left = [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def install_standin(directory: Path, forced_command: str) -> SshLogin:
    """A login by the stand-in for ssh (see `ssh_standin`); writes into `directory`, no process."""
    identity = directory / "identity"
    identity.write_text("not a key: the ssh stand-in runs the command of identity.forced\n")
    (directory / "identity.forced").write_text(forced_command + "\n")
    script = directory / "ssh"
    standin = Path(__file__).with_name("ssh_standin.py")
    words = shlex.join([sys.executable, "-I", "-S", str(standin)])
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    script.chmod(0o755)
    return SshLogin(
        host="localhost",
        port=22,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        identity_file=identity,
        options=(),
        ssh_command=str(script),
    )
