from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.streamhead import MOST_HEAD_BYTES, RECORD_BYTES, head_bytes, is_raw

STREAM, PACKAGE = 1, 2
COMPRESSED, RAW = 1 << 22, 1 << 24


def record(
    order: str, *, kind: int = 0, payload: int = 0, form: int = 1, features: int = 0
) -> bytes:
    """A record as zfs_ioctl.h lays it out: type, length of the payload, magic, version."""
    version = form | features << 2
    begin = struct.pack(f"{order}IIQQ", kind, payload, 0x2F5BACBAC, version)
    return begin.ljust(RECORD_BYTES, b"\xaa")


def package(order: str, features: int, *, listed: int = 1000) -> bytes:
    begin = record(order, payload=listed, form=PACKAGE) + b"n" * listed
    end = struct.pack(f"{order}II", 5, 0).ljust(RECORD_BYTES, b"\0")
    return begin + end + record(order, form=STREAM, features=features)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("raw", [False, True])
def test_the_first_record_tells(order: str, raw: bool) -> None:
    features = COMPRESSED | (RAW if raw else 0)
    head = record(order, form=STREAM, features=features)
    assert head_bytes(b"") == head_bytes(head) == RECORD_BYTES
    assert is_raw(head) is is_raw(head + b"more") is raw
    assert is_raw(head[:-1]) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("raw", [False, True])
def test_in_a_package_the_second_one_does(order: str, raw: bool) -> None:
    head = package(order, RAW if raw else COMPRESSED)
    assert head_bytes(head[:RECORD_BYTES]) == len(head)
    assert is_raw(head) is raw
    assert is_raw(head[:-1]) is None
    assert is_raw(head[:RECORD_BYTES]) is None


def test_a_package_may_claim_what_it_wants() -> None:
    head = record("<", payload=0xFFFF_FFFF, form=PACKAGE)
    assert head_bytes(head) > MOST_HEAD_BYTES
    assert is_raw(head) is None


def test_what_begins_otherwise_tells_nothing() -> None:
    assert is_raw(record("<", kind=5, features=RAW)) is None
    assert is_raw(b"emulated zfs stream 1\n".ljust(RECORD_BYTES)) is None


@given(st.binary(max_size=400))
def test_noise_tells_nothing_and_costs_nothing(noise: bytes) -> None:
    assert is_raw(noise) is None
    assert head_bytes(noise) == RECORD_BYTES
