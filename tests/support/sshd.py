"""A real sshd for a test, or the stand-in; with the installed `zrepl-trio` as forced command."""

from __future__ import annotations

import shlex
import shutil
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from zrepl_trio.children import open_processes
from zrepl_trio.demo.openssh import OpenSsh, SshLogin, find_sshd, running_sshd
from zrepl_trio.transport.sshargs import SshTarget

__all__ = ["forced_command", "needs_sshd", "ssh_target", "sshd"]

needs_sshd = pytest.mark.skipif(
    find_sshd() is None, reason="OpenSSH's sshd, ssh and ssh-keygen are not all installed"
)


def forced_command(sockdir: str, identity: str) -> str:
    """As in authorized_keys, by the absolute path of the command beside this interpreter.

    `exec`, because a login shell such as dash would stay and hide the daemon's half-close.
    """
    command = shutil.which("zrepl-trio", path=sysconfig.get_path("scripts"))
    assert command, "zrepl-trio is not installed beside this interpreter: make install"
    return "exec " + shlex.join([command, "stdinserver", "--sockdir", sockdir, identity])


@asynccontextmanager
async def sshd(directory: Path, command: str) -> AsyncIterator[OpenSsh]:
    """A running sshd that lets one key run `command`; in `directory`, made here if need be."""
    directory.mkdir(mode=0o700, exist_ok=True)
    async with open_processes() as processes, running_sshd(processes, directory, command) as server:
        yield server


def ssh_target(login: SshLogin, **changes: object) -> SshTarget:
    """The login as the connecter takes it, with changes."""
    target = SshTarget(
        host=login.host,
        user=login.user,
        port=login.port,
        identity_file=str(login.identity_file),
        options=login.options,
        ssh_command=login.ssh_command,
    )
    return replace(target, **changes)  # type: ignore[arg-type]
