from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from zrepl_trio.rpc import handshake, label
from zrepl_trio.rpc.handshake import Banner
from zrepl_trio.rpc.label import Label

OURS = bytes.fromhex(
    "30303030303030303536205a5245504c5f5a46535f5245504c49434154494f4e2050524f544f56455253494f4e3d"
    "3030303720455854454e53494f4e533d303030300a"
)


def parse(data: bytes) -> Banner:
    length = handshake.body_length(data[: handshake.PREFIX_BYTES])
    body = data[handshake.PREFIX_BYTES :]
    assert len(body) == length
    return handshake.parse_body(body)


def test_our_banner_is_zrepls() -> None:
    assert handshake.render() == OURS
    assert len(OURS) == 67


@pytest.mark.parametrize(
    ("data", "banner"),
    [
        (OURS, Banner(7)),
        (
            b"0000000066 ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0002\nfoo\nbar 1\n",
            Banner(7, ("foo", "bar 1")),
        ),
        (
            b"0000000069 ZREPL_ZFS_REPLICATION PROTOVERSION=2342 EXTENSIONS=0002\nfoo\nbar 2342\n",
            Banner(2342, ("foo", "bar 2342")),
        ),
    ],
    ids=["zrepl 0.7", "extensions", "another version"],
)
def test_banners_are_parsed_and_rendered_alike(data: bytes, banner: Banner) -> None:
    assert parse(data) == banner
    assert handshake.render(banner.version, banner.extensions) == data


@pytest.mark.parametrize(
    "prefix",
    [b"SSHCON_HELO", b"000000005x ", b"0000000056_", b"0000065537 ", b"+000000056 ", b"short"],
)
def test_a_bad_prefix_is_refused(prefix: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        handshake.body_length(prefix)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=007 EXTENSIONS=0000\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0000 EXTENSIONS=0000\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=10000 EXTENSIONS=0000\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=9999\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000\ntrailing",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000\ntrailing\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0002\none\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0001\n\xff\n",
        b"ZREPL_ZFS_REPLICATION PROTOVERSION=" + b"9" * 5000 + b" EXTENSIONS=0000\n",
    ],
)
def test_a_bad_body_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        handshake.parse_body(body)


def test_another_version_is_refused_and_both_are_named() -> None:
    handshake.check_version(Banner(7))
    with pytest.raises(RemoteProtocolError, match=r"version 6, this side speaks 7"):
        handshake.check_version(Banner(6))


@pytest.mark.parametrize(
    ("version", "extensions"), [(0, []), (10_000, []), (7, ["a\nb"]), (7, ["x" * 65_536])]
)
def test_we_send_no_banner_that_is_refused(version: int, extensions: list[str]) -> None:
    with pytest.raises(LocalProtocolError):
        handshake.render(version, extensions)


def test_we_send_no_more_extensions_than_a_peer_takes() -> None:
    with pytest.raises(LocalProtocolError):
        handshake.render(7, [""] * 9999)


@given(
    st.integers(1, 9999),
    st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8")), max_size=5),
)
def test_what_we_render_is_what_we_parse(version: int, extensions: list[str]) -> None:
    assert parse(handshake.render(version, extensions)) == Banner(version, tuple(extensions))


@given(st.binary(max_size=200))
def test_noise_is_only_ever_a_protocol_error(data: bytes) -> None:
    for check in (handshake.body_length, handshake.parse_body, label.parse):
        try:
            check(data)
        except ProtocolError:
            pass
        else:
            assert check is handshake.body_length


def test_labels_are_zrepls() -> None:
    control = bytes.fromhex("7a7265706c5f636f6e74726f6c") + bytes(51)
    data = bytes.fromhex("7a7265706c5f64617461") + bytes(54)
    assert (label.render(Label.CONTROL), label.render(Label.DATA)) == (control, data)
    assert (label.parse(control), label.parse(data)) == (Label.CONTROL, Label.DATA)


@pytest.mark.parametrize(
    "data", [b"zrepl_data", bytes(64), b"zrepl_data".ljust(63, b"\0") + b"x", b"zrepl_other" * 6]
)
def test_every_byte_of_a_label_counts(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown connection label"):
        label.parse(data)
