"""A real sshd of our own on loopback: fresh keys, a forced command each, nothing of ~/.ssh touched."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .waiting import until

SBIN = "/usr/sbin:/usr/local/sbin"


def tool(name: str) -> str:
    """The absolute path of one of OpenSSH's programs; sshd refuses to start without one."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    assert found, f"{name} is not installed (Debian/Ubuntu: apt install openssh-server)"
    return found


@dataclass(frozen=True)
class Sshd:
    """Where it listens, and what a client's `connect` section needs."""

    port: int
    user: str
    identity_file: Path
    options: tuple[str, ...]
    _authorized_keys: Path

    def key(self, name: str) -> Path:
        """A private key by that name, made when it is first asked for."""
        path = self.identity_file.with_name(f"key.{name}")
        if not path.exists():
            _key(path)
        return path

    def force(self, command: str) -> None:
        """From now on a login runs this, whatever the client asks for."""
        self.force_each({self.identity_file: command})

    def force_each(self, commands: Mapping[Path, str]) -> None:
        """From now on a login runs the command of its key, and no other key is known."""
        assert '"' not in "".join(commands.values())
        self._authorized_keys.write_text(
            "".join(
                f'command="{command}",restrict {_public(key)}\n'
                for key, command in commands.items()
            )
        )


def _key(path: Path) -> str:
    subprocess.run(
        [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True
    )
    return _public(path)


def _public(key: Path) -> str:
    return key.with_name(f"{key.name}.pub").read_text().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_sshd(directory: Path) -> Iterator[Sshd]:
    """sshd on a free port, its files in `directory`; gone, with its sessions, at the end."""
    directory.mkdir(mode=0o700)
    host_key = _key(directory / "host")
    _key(directory / "identity")
    port = _free_port()
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_key}\n")
    authorized_keys = directory / "authorized_keys"
    authorized_keys.touch(mode=0o600)
    config = directory / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nPidFile none\n"
        f"AuthorizedKeysFile {authorized_keys}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin forced-commands-only\nMaxStartups 100\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it gives up its privileges
    with (directory / "sshd.log").open("wb") as log:
        sshd = subprocess.Popen(
            [tool("sshd"), "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        until(lambda: sshd.poll() is not None or _answers(port), "sshd listens")
        assert sshd.poll() is None, (directory / "sshd.log").read_text()
        yield Sshd(
            port=port,
            user=getpass.getuser(),
            identity_file=directory / "identity",
            options=(f"UserKnownHostsFile={known_hosts}", "IdentitiesOnly=yes", "Compression=no"),
            _authorized_keys=authorized_keys,
        )
    finally:
        sshd.terminate()
        sshd.wait()
