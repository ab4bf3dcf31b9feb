"""The `connect` and `serve` sections: one model a transport, chosen by `type`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from zrepl_trio.config.addresses import ClientPattern
from zrepl_trio.config.base import Section, bad
from zrepl_trio.config.fields import (
    ClientIdentity,
    Flag,
    IdentityFile,
    ListenAddress,
    Path,
    Port,
    RequiredText,
    ServerName,
    SshCommand,
    SshHost,
    SshOption,
    SshUser,
    nonempty,
    null_is_empty_list,
    null_is_empty_map,
)
from zrepl_trio.config.go_durations import GoDuration, GoTimeout
from zrepl_trio.config.scalars import ScalarError

__all__ = [
    "Connect",
    "LocalConnect",
    "LocalServe",
    "Serve",
    "SshStdinserverConnect",
    "StdinserverServe",
    "TcpConnect",
    "TcpServe",
    "TlsConnect",
    "TlsServe",
]


def _no_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise bad(f"{value!r} stands twice")
    return values


class SshStdinserverConnect(Section):
    """Connect through `ssh` to a host whose authorized_keys runs `stdinserver IDENTITY`."""

    type: Literal["ssh+stdinserver"]
    host: SshHost
    """Host name, address or ssh_config alias."""
    user: SshUser
    """User to log in as."""
    port: Port
    """Port of the host's sshd; there is no default."""
    identity_file: IdentityFile
    """Private key, without passphrase, used for this only."""
    options: Annotated[tuple[SshOption, ...], BeforeValidator(null_is_empty_list)] = ()
    """Each becomes `-o OPTION` of ssh."""
    ssh_command: SshCommand = ""
    """A program to run in place of `ssh` (path or name, no arguments)."""
    transport_open_command: Annotated[
        tuple[RequiredText, ...], BeforeValidator(null_is_empty_list)
    ] = ()
    """Read and without effect, as in zrepl; the daemon warns of it."""
    dial_timeout: GoTimeout = 10.0
    """Seconds from starting ssh to the end of the banner exchange (0 would fail at once)."""


class TcpConnect(Section):
    """Connect over plain TCP: neither encrypted nor authenticated."""

    type: Literal["tcp"]
    address: ListenAddress
    """Host and port of the serving side."""
    dial_timeout: GoDuration = 10.0
    """Seconds; 0 is no limit."""


class TlsConnect(Section):
    """Connect over TLS with certificates on both sides."""

    type: Literal["tls"]
    address: ListenAddress
    """Host and port of the serving side."""
    ca: Path
    """PEM file of the authority that signed the server's certificate."""
    cert: Path
    """PEM file of our certificate."""
    key: Path
    """PEM file of our private key."""
    server_cn: ServerName
    """Name that must be in the server's certificate."""
    dial_timeout: GoDuration = 10.0
    """Seconds for the TCP connection; 0 is no limit."""


class LocalConnect(Section):
    """Connect to a job in the same daemon."""

    type: Literal["local"]
    listener_name: RequiredText
    """`listener_name` of the serving job."""
    client_identity: ClientIdentity
    """Identity that the serving job sees; a sink stores below it."""
    dial_timeout: GoDuration = 2.0
    """Seconds; 0 is no limit."""


class StdinserverServe(Section):
    """Serve ssh clients that run `stdinserver IDENTITY`: one UNIX socket for each identity."""

    type: Literal["stdinserver"]
    client_identities: Annotated[
        tuple[ClientIdentity, ...],
        BeforeValidator(null_is_empty_list),
        AfterValidator(nonempty),
        AfterValidator(_no_repeats),
        Field(json_schema_extra={"minItems": 1}),
    ]
    """Who may connect."""


class TcpServe(Section):
    """Serve over plain TCP to clients known by their address."""

    type: Literal["tcp"]
    listen: ListenAddress
    """Address to listen on; an empty host means all."""
    listen_freebind: Flag = False
    """Listen on an address that the host does not have yet."""
    clients: Annotated[
        dict[RequiredText, RequiredText],
        BeforeValidator(null_is_empty_map),
        AfterValidator(nonempty),
        Field(json_schema_extra={"minProperties": 1}),
    ]
    """IP or network → client identity; a network's identity holds `*` for the address."""

    @field_validator("clients")
    @classmethod
    def _patterns(cls, clients: dict[str, str]) -> dict[str, str]:
        for pattern, identity in clients.items():
            try:
                ClientPattern.parse(pattern).check_identity(identity)
            except ScalarError as error:
                raise bad(f"{pattern}: {error.message}", error.accepted) from None
        return clients


class TlsServe(Section):
    """Serve over TLS to clients known by their certificate."""

    type: Literal["tls"]
    listen: ListenAddress
    """Address to listen on; an empty host means all."""
    listen_freebind: Flag = False
    """Listen on an address that the host does not have yet."""
    ca: Path
    """PEM file of the authority that signed the clients' certificates."""
    cert: Path
    """PEM file of our certificate."""
    key: Path
    """PEM file of our private key."""
    client_cns: Annotated[
        tuple[ClientIdentity, ...],
        BeforeValidator(null_is_empty_list),
        AfterValidator(nonempty),
        Field(json_schema_extra={"minItems": 1}),
    ]
    """Common names that may connect; each is that client's identity."""
    handshake_timeout: GoDuration = 10.0
    """Seconds for the TLS handshake; 0 is no limit."""


class LocalServe(Section):
    """Serve jobs of the same daemon."""

    type: Literal["local"]
    listener_name: RequiredText
    """Name that `connect` sections of type local refer to; of several jobs the first one is meant."""


Connect = Annotated[
    SshStdinserverConnect | TcpConnect | TlsConnect | LocalConnect, Field(discriminator="type")
]
Serve = Annotated[StdinserverServe | TcpServe | TlsServe | LocalServe, Field(discriminator="type")]
