"""Addresses in the config: `host:port`, ssh destinations, and the tcp client map."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from zrepl_trio.config.hostnames import HOST_RULE, is_host
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.zfs.names import InvalidName, check_identity

__all__ = [
    "HOSTPORT_WORDS",
    "ClientPattern",
    "HostPort",
    "check_client_identity",
    "check_identity_file",
    "check_server_name",
    "check_ssh_command",
    "check_ssh_host",
    "check_ssh_user",
]

HOSTPORT_WORDS = "HOST:PORT, with IPv6 in brackets, such as backup.example.com:8888 or [::1]:8888"

# What OpenSSH (9.6 and later) itself refuses in a destination, as a shell would act on it in a
# ProxyCommand or Match exec.
_SHELL = re.compile(r"""['"`$\\;&<>|(){}]""")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host (may be empty: any address) and a port number or service name."""

    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address in `text`, split as Go's `net.SplitHostPort` does; else ScalarError."""
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or not rest.startswith(":"):
                raise ScalarError(f"{text!r} is not an address with a port", HOSTPORT_WORDS)
            port = rest[1:]
        else:
            host, colon, port = text.rpartition(":")
            if not colon:
                raise ScalarError(f"{text!r} has no port", HOSTPORT_WORDS)
            if ":" in host:
                raise ScalarError(f"{text!r} has too many colons", HOSTPORT_WORDS)
        if _BLANK.search(text) or any(char in host for char in "[]") or not _is_port(port):
            raise ScalarError(f"{text!r} is not an address with a port", HOSTPORT_WORDS)
        if not is_host(host):
            raise ScalarError(f"{text!r} has no host that can be looked up", HOST_RULE)
        return cls(host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_port(text: str) -> bool:
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return len(text) <= 5 and 0 < int(text) <= 65535
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,14}", text, re.ASCII) is not None


def _refuse_option(text: str, what: str) -> None:
    if text.startswith("-"):
        raise ScalarError(f"{text!r} would be read by ssh as an option", f"a {what}")
    if _BLANK.search(text) or not text.isprintable():
        raise ScalarError(f"{text!r} holds a blank or control character", f"a {what}")


def check_ssh_host(text: str) -> str:
    """`text`, if it can only be a host name, address or ssh_config alias to ssh."""
    _refuse_option(text, "host name, address or ssh_config alias")
    if _SHELL.search(text) or any(char in text for char in "@/"):
        raise ScalarError(f"{text!r} is not a host", "a host name, address or ssh_config alias")
    return text


def check_ssh_user(text: str) -> str:
    """`text`, if it can only be a user name to ssh."""
    _refuse_option(text, "user name")
    # A slash would let `ssh://…` make ssh read the whole destination as a URI.
    if re.search(r"""['"`;&<>|(){}/]""", text) or text.endswith("\\"):
        raise ScalarError(f"{text!r} is not a user name", "a user name")
    return text


def check_identity_file(text: str) -> str:
    """`text`, if it can only be a path to ssh."""
    if text.startswith("-"):
        raise ScalarError(f"{text!r} starts with `-`", "a path, such as /etc/zrepl/ssh/identity")
    return text


def check_ssh_command(text: str) -> str:
    """`text`, if it names one program: no option, no arguments. Empty means `ssh`."""
    if text:
        _refuse_option(text, "path or name of one program, without arguments (see `options`)")
    return text


def check_client_identity(text: str) -> str:
    """`text`, if it can be a client identity: one component of a dataset path."""
    try:
        return check_identity(text)
    except InvalidName as error:
        raise ScalarError(
            str(error), "1 to 255 of 0-9 A-Z a-z - _ . : and space, not `.` or `..`"
        ) from None


def check_server_name(text: str) -> str:
    """`text`, if a certificate can be checked for it."""
    if not is_host(text):
        raise ScalarError(f"{text!r} is not the name of a host", HOST_RULE)
    return text


@dataclass(frozen=True, slots=True)
class ClientPattern:
    """One key of a tcp client map: a network (a single address is a full-length one), a zone."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    zone: str
    is_network: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """`IP[%ZONE]` or `CIDR[%ZONE]`; ScalarError otherwise."""
        bare, _, zone = text.partition("%")
        try:
            network = ipaddress.ip_network(bare, strict=False)
        except ValueError:
            raise ScalarError(
                f"{text!r} is no IP address or network",
                "an IP or a CIDR, each optionally with %ZONE, such as 10.0.0.0/24 or fe80::1%eth0",
            ) from None
        return cls(network, zone, "/" in bare)

    def check_identity(self, identity: str) -> None:
        """ScalarError unless `identity` fits: one `*` behind a network, none behind an address."""
        stars = identity.count("*")
        if self.is_network and stars != 1:
            raise ScalarError(
                f"{identity!r}: the identity of a network holds exactly one `*`, which becomes "
                "the client's address"
            )
        if not self.is_network and stars:
            raise ScalarError(f"{identity!r}: the identity of a single address holds no `*`")
        # The longest address there is, so that every expansion is legal.
        longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
        if self.zone:
            longest += f"-{self.zone}"
        check_client_identity(identity.replace("*", longest))
