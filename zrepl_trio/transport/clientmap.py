"""Which identity a tcp client has, by its address. Pure.

As zrepl does it (behaviour 1.7): IPv4 counts as v4-mapped IPv6, the longest prefix wins, zones must
be equal, and the `*` of a network's identity becomes the client's address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeAlias

from zrepl_trio.config.addresses import ClientPattern
from zrepl_trio.zfs.names import Identity, check_identity

__all__ = ["ClientMap"]

_MAPPED = int(ipaddress.IPv6Address("::ffff:0:0"))
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class _Entry:
    first: int
    prefix: int
    zone: str
    identity: str

    def covers(self, address: int, zone: str) -> bool:
        return zone == self.zone and (address ^ self.first) >> (128 - self.prefix) == 0


class ClientMap:
    """The `clients` of a tcp `serve` section, checked by the config: address or network →
    identity."""

    def __init__(self, entries: tuple[_Entry, ...]) -> None:
        self._entries = entries

    @classmethod
    def of(cls, clients: Mapping[str, str]) -> Self:
        """Raises ScalarError for a key that is no address or network."""
        entries = [_entry(ClientPattern.parse(key), clients[key]) for key in clients]
        return cls(tuple(sorted(entries, key=lambda e: (-e.prefix, e.first, e.zone))))

    def identity_of(self, host: str) -> Identity | None:
        """The identity of the client at `host` (an address, perhaps with `%ZONE`), None for one
        that the map does not name."""
        bare, _, zone = host.partition("%")
        address = _unmapped(ipaddress.ip_address(bare))
        number = _widened(address)
        for entry in self._entries:
            if entry.covers(number, zone):
                text = f"{address}-{zone}" if zone else str(address)
                return check_identity(entry.identity.replace("*", text))
        return None


def _entry(pattern: ClientPattern, identity: str) -> _Entry:
    network = pattern.network
    widened_by = 128 - network.max_prefixlen
    return _Entry(
        first=_widened(network.network_address),
        prefix=network.prefixlen + widened_by,
        zone=pattern.zone,
        identity=identity,
    )


def _widened(address: _Address) -> int:
    return int(address) | (_MAPPED if address.version == 4 else 0)


def _unmapped(address: _Address) -> _Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
