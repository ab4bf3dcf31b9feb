"""Looking up hosts, and connecting to them over TCP: trio's calls, whose every failure is an OSError here.

Else a name that no resolver can be asked for (an empty part, one of more than 63 characters) would come out
of the `idna` codec as a UnicodeError, which nobody expects of a connection.
"""

from __future__ import annotations

import socket
from typing import TypeAlias

import trio

from zrepl_trio.config.hostnames import HOST_RULE
from zrepl_trio.errors import leaves

__all__ = ["SocketAddress", "addresses_of", "open_tcp", "why"]

SocketAddress: TypeAlias = "tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]"
"""Where to bind or connect a socket, in the form that its family has."""

_FAMILIES = {"tcp": socket.AF_UNSPEC, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}
_LOCAL_ADDRESS = {"tcp": None, "tcp4": "0.0.0.0", "tcp6": "::"}  # noqa: S104 - nothing is bound to listen
"""trio's way to ask for one family."""


async def addresses_of(
    host: str, port: int | str | None, *, family: int = socket.AF_UNSPEC, kind: int
) -> list[tuple[int, int, int, str, SocketAddress]]:
    """What `getaddrinfo` tells of `host`, for sockets of `kind`; OSError when that is nothing."""
    try:
        return list(await trio.socket.getaddrinfo(host, port, family=family, type=kind))
    except UnicodeError:
        raise _no_name(host) from None


async def open_tcp(host: str, port: int, net: str = "tcp") -> trio.SocketStream:
    """A connected socket, which the caller owns; over IPv4 or IPv6 alone for `net` tcp4 or tcp6. OSError
    when there is none; `why` has the words."""
    if (
        net != "tcp"
    ):  # the try below would tell of an address of its own, and not that the host has none
        await addresses_of(host, port, family=_FAMILIES[net], kind=socket.SOCK_STREAM)
    try:
        return await trio.open_tcp_stream(host, port, local_address=_LOCAL_ADDRESS[net])
    except UnicodeError:
        raise _no_name(host) from None


def why(error: OSError) -> str:
    """What went wrong with each address that was tried, once."""
    causes = [error] if error.__cause__ is None else list(leaves(error.__cause__))
    # those without a number are addresses of a family that was not asked for
    told = [each for each in causes if getattr(each, "errno", None) is not None] or causes
    return "; ".join(
        dict.fromkeys(
            getattr(each, "strerror", None) or str(each) or type(each).__name__ for each in told
        )
    )


def _no_name(host: str) -> OSError:
    return OSError(f"{host!r} cannot be looked up: {HOST_RULE}")
