"""TCP sockets for the tcp and tls transports: listening and dialling, with errors that say what to do."""

from __future__ import annotations

import errno
import math
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

import trio

from zrepl_trio.config.addresses import HostPort
from zrepl_trio.dialling import SocketAddress, addresses_of, open_tcp, why
from zrepl_trio.errors import ConnectFailed, Refused

__all__ = ["dial", "limit", "listening_at", "peer_host"]

_BACKLOG = 1024

_FREEBIND = {
    "linux": ((socket.SOL_IP, 15), (socket.IPPROTO_IPV6, 78)),  # IP_FREEBIND, IPV6_FREEBIND
    "freebsd": ((socket.IPPROTO_IP, 24), (socket.IPPROTO_IPV6, 64)),  # IP_BINDANY, IPV6_BINDANY
}


def limit(seconds: float) -> float:
    """A timeout of the config, where 0 means none, as trio takes it."""
    return seconds or math.inf


def peer_host(sock: trio.socket.SocketType) -> str:
    """The peer's address, with its zone where it has one: Python tells that by number, and apart."""
    name = sock.getpeername()
    host: str = name[0]
    scope = name[3] if len(name) > 3 else 0
    if not scope or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface has gone
        return f"{host}%{scope}"


async def dial(address: HostPort, timeout_s: float) -> trio.SocketStream:
    """A connected socket, which the caller owns. ConnectFailed says why there is none."""
    try:
        with trio.fail_after(limit(timeout_s)):
            stream = await open_tcp(address.host or "localhost", _port(address.port))
    except trio.TooSlowError:
        raise ConnectFailed(f"{address} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise ConnectFailed(f"cannot connect to {address}: {why(error)}") from error
    _keep_alive(stream.socket)
    return stream


@asynccontextmanager
async def listening_at(
    address: HostPort, *, freebind: bool
) -> AsyncIterator[list[trio.socket.SocketType]]:
    """A listening socket for each address that `address` stands for; an empty host means all, IPv4
    and IPv6. Closed at the end of the block. Refused when one of them can't be had."""
    with ExitStack() as stack:
        listeners = []
        try:
            for family, where, dual in await _places(address):
                bound = stack.enter_context(_bound(family, where, dual=dual, freebind=freebind))
                listeners.append(trio.socket.from_stdlib_socket(bound))
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, "")
            raise Refused(f"can't listen on {address}: {error.strerror or error}{hint}") from error
        yield listeners


_HINTS = {
    errno.EADDRINUSE: "; `ss -ltnp` shows who has it",
    errno.EADDRNOTAVAIL: "; no interface has this address: `listen_freebind: true` listens before "
    "it comes up",
    errno.EACCES: "; ports below 1024 are for root",
}


_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - the admin says all


async def _places(address: HostPort) -> list[tuple[int, SocketAddress, bool]]:
    """(family, address to bind, whether an IPv6 socket is to serve IPv4 too)."""
    port = _port(address.port)
    if address.host in _ANY:  # as in Go, either wildcard is both
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, ("::", port), True)]
        return [(socket.AF_INET, ("0.0.0.0", port), False)]  # noqa: S104 - the admin said all
    found = await addresses_of(address.host, port, kind=socket.SOCK_STREAM)
    return [(family, where, False) for family, _type, _proto, _name, where in found]


def _bound(family: int, where: SocketAddress, *, dual: bool, freebind: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        if freebind:
            _set_freebind(sock)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _set_freebind(sock: socket.socket) -> None:
    options = next((o for name, o in _FREEBIND.items() if sys.platform.startswith(name)), None)
    if options is None:
        raise OSError(errno.EOPNOTSUPP, f"listen_freebind is not known on {sys.platform}")
    level, option = options[sock.family == socket.AF_INET6]
    sock.setsockopt(level, option, 1)


def _port(text: str) -> int:
    return int(text) if text.isdecimal() else socket.getservbyname(text, "tcp")


def _keep_alive(sock: trio.socket.SocketType) -> None:
    """A peer that vanishes without a word is noticed by the kernel too."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
