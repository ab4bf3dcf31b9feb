"""Every way to join two daemons: for each transport the two halves of config, and the line between."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from . import counting_ssh, counting_tcp
from .sshd import Sshd, tool
from .waiting import until

IDENTITY = "backup-srv.example.com"
SERVER = "server.example.com"
TRANSPORTS = ("ssh", "tcp", "tls", "local")


@dataclass(frozen=True)
class Link:
    """YAML for `connect` and `serve`."""

    connect: str
    serve: str


@contextmanager
def linked(
    transport: str,
    line: Path,
    sshd: Sshd | None,
    *,
    pushes: bool,
    identity: str = IDENTITY,
    key: Path | None = None,
) -> Iterator[Link]:
    """The link; what transfers bring is counted in the directory `line`, except for local.

    `identity` is who connects; over ssh with `key`, if that is not to be sshd's one for all.
    """
    counted = "to" if pushes else "from"
    match transport:
        case "ssh":
            assert sshd is not None
            ssh_command = counting_ssh.script(line, counted, tool("ssh"))
            yield _ssh(sshd, ssh_command, identity, key or sshd.identity_file)
        case "tcp":
            with _relayed(line, counted) as (ours, target):
                yield Link(
                    f'{{type: tcp, address: "127.0.0.1:{ours}"}}',
                    f'{{type: tcp, listen: "127.0.0.1:{target}", '
                    f"clients: {{127.0.0.1: {identity}}}}}",
                )
        case "tls":
            certificates = _certificates(line, identity)
            with _relayed(line, counted) as (ours, target):
                yield Link(
                    f'{{type: tls, address: "127.0.0.1:{ours}", server_cn: {SERVER}, '
                    f"{certificates['client']}}}",
                    f'{{type: tls, listen: "127.0.0.1:{target}", client_cns: [{identity}], '
                    f"{certificates['server']}}}",
                )
        case _:
            assert transport == "local"
            yield Link(
                f"{{type: local, listener_name: here, client_identity: {identity}}}",
                "{type: local, listener_name: here}",
            )


def _ssh(sshd: Sshd, ssh_command: Path, identity: str, key: Path) -> Link:
    options = ", ".join(f'"{option}"' for option in sshd.options)
    return Link(
        f"{{type: ssh+stdinserver, host: 127.0.0.1, user: {sshd.user}, port: {sshd.port}, "
        f"identity_file: {key}, ssh_command: {ssh_command}, dial_timeout: 30s, "
        f"options: [{options}]}}",
        f"{{type: stdinserver, client_identities: [{identity}]}}",
    )


def _certificates(directory: Path, client: str) -> dict[str, str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    names = {"server": SERVER, "client": client}
    for role, name in names.items():
        issued = authority.issue_cert(name, common_name=name)
        issued.private_key_pem.write_to_path(directory / f"{role}.key")
        issued.cert_chain_pems[0].write_to_path(directory / f"{role}.pem")
    return {
        role: f"ca: {directory}/ca.pem, cert: {directory}/{role}.pem, key: {directory}/{role}.key"
        for role in names
    }


@contextmanager
def _relayed(line: Path, counted: str) -> Iterator[tuple[int, int]]:
    """The port to connect to and the one to listen on."""
    ours, target = _free_port(), _free_port()
    words = [counting_tcp.__file__, line, counted, ours, target]
    with subprocess.Popen([sys.executable, "-I", *map(str, words)]) as relay:
        try:
            until(lambda: _answers(ours), "the relay listens")
            yield ours, target
        finally:
            relay.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
