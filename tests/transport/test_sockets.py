"""Peers' addresses, with their zones; hosts that cannot be looked up."""

from __future__ import annotations

import socket

import pytest

from zrepl_trio.config.addresses import HostPort
from zrepl_trio.errors import ConnectFailed, Refused
from zrepl_trio.transport.sockets import dial, listening_at, peer_host


class Named:
    def __init__(self, *name: object) -> None:
        self._name = name

    def getpeername(self) -> tuple[object, ...]:
        return self._name


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("fe80::1", 1, 0, 1), f"fe80::1%{socket.if_indextoname(1)}"),
        (("fe80::1%eth9", 1, 0, 1), "fe80::1%eth9"),
        (("fe80::1", 1, 0, 999_999), "fe80::1%999999"),  # the interface has gone
    ],
)
def test_an_address_has_its_zone(name: tuple[object, ...], host: str) -> None:
    assert peer_host(Named(*name)) == host  # type: ignore[arg-type]


def link_local() -> tuple[str, int] | None:
    """An address of this machine with a zone, and its interface's number."""
    try:
        with open("/proc/net/if_inet6") as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    for address, index, _length, scope, *_ in rows:
        if scope == "20":
            groups = ":".join(address[n : n + 4] for n in range(0, 32, 4))
            return groups, int(index, 16)
    return None


@pytest.mark.skipif(link_local() is None, reason="no link-local address here")
def test_a_real_socket_tells_it() -> None:
    found = link_local()
    assert found is not None
    address, index = found
    with socket.socket(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as client:
        listener.bind((address, 0, 0, index))
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            host = peer_host(accepted)  # type: ignore[arg-type]
    assert host.endswith(f"%{socket.if_indextoname(index)}")


async def test_a_host_that_cannot_be_looked_up_is_no_bug_of_ours() -> None:
    address = HostPort("a..b", "8888")
    with pytest.raises(ConnectFailed, match=r"cannot connect to a\.\.b:8888: 'a\.\.b' cannot be"):
        await dial(address, 5.0)
    with pytest.raises(Refused, match=r"can't listen on a\.\.b:8888: 'a\.\.b' cannot be"):
        async with listening_at(address, freebind=False):
            pass
