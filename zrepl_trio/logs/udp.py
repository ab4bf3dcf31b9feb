"""A log server over UDP: each line a datagram, and nobody says whether it arrived."""

from __future__ import annotations

import socket

import trio

from zrepl_trio.config.model import TcpOutlet
from zrepl_trio.dialling import addresses_of
from zrepl_trio.logs.datagrams import Datagrams

__all__ = ["MAX_BYTES", "connect_udp"]

MAX_BYTES = 60 * 1024
"""Of a line: UDP's limit, 65,507 (RFC 768 over IPv4), with room for the sign that it was cut."""

_FAMILIES = {"udp": socket.AF_UNSPEC, "udp4": socket.AF_INET, "udp6": socket.AF_INET6}


async def connect_udp(outlet: TcpOutlet) -> trio.abc.SendStream:
    """A socket that sends to `address`, over the family that `net` names; OSError when it has none."""
    found = await addresses_of(
        outlet.address.host or "localhost",
        outlet.address.port,
        family=_FAMILIES[outlet.net],
        kind=socket.SOCK_DGRAM,
    )
    refused: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            sock = trio.socket.socket(family, kind, protocol)
        except OSError as error:
            refused = error
            continue
        try:
            await sock.connect(address)
        except OSError as error:
            sock.close()
            refused = error
        except BaseException:
            sock.close()
            raise
        else:
            return Datagrams(sock)
    raise refused or OSError(f"{outlet.address} has no address of {outlet.net}")
