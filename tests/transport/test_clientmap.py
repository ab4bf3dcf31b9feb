"""Addresses to identities; the table is zrepl's own meaning of a client map (behaviour 1.7)."""

from __future__ import annotations

import pytest

from zrepl_trio.transport.clientmap import ClientMap

MAP = ClientMap.of(
    {
        "10.1.0.0/16": "sixteen-*",
        "10.1.2.0/24": "twentyfour-*",
        "10.1.2.3": "one-host",
        "fd00:1::/32": "v6-*",
        "fd00:1:2::/48": "closer-*",
        "fd00:1:2::7": "v6-host",
        "fe80::/16%eth1": "linked-*",
        "fd00:1:2::8%eth1": "zoned",
    }
)


@pytest.mark.parametrize(
    ("address", "identity"),
    [
        ("10.1.2.3", "one-host"),
        ("10.1.2.4", "twentyfour-10.1.2.4"),
        ("10.1.3.4", "sixteen-10.1.3.4"),
        ("10.2.0.1", None),
        ("::ffff:10.1.2.3", "one-host"),
        ("::ffff:10.1.3.4", "sixteen-10.1.3.4"),
        ("fd00:1:2::7", "v6-host"),
        ("fd00:1:2:0:0:0:0:9", "closer-fd00:1:2::9"),
        ("fd00:1:3::7", "v6-fd00:1:3::7"),
        ("fd00:2::1", None),
        ("fe80::5%eth1", "linked-fe80::5-eth1"),
        ("fe80::5%eth2", None),
        ("fe80::5", None),
        ("fd00:1:2::8%eth1", "zoned"),
        ("fd00:1:2::8", "closer-fd00:1:2::8"),
    ],
)
def test_the_longest_prefix_in_the_same_zone_wins(address: str, identity: str | None) -> None:
    assert MAP.identity_of(address) == identity


def test_everybody() -> None:
    everybody = ClientMap.of({"0.0.0.0/0": "v4-*", "::/0": "v6-*"})
    assert everybody.identity_of("192.0.2.1") == "v4-192.0.2.1"
    assert everybody.identity_of("2001:db8::1") == "v6-2001:db8::1"
    # an IPv4 network is a longer prefix of the mapped form than all of IPv6
    assert everybody.identity_of("::ffff:192.0.2.1") == "v4-192.0.2.1"


def test_a_v6_address_that_ends_like_a_v4_one_is_another() -> None:
    assert ClientMap.of({"192.168.23.23": "one"}).identity_of("fd00::c0a8:1717") is None
