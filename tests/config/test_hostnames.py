"""Hosts that a resolver can be asked for."""

from __future__ import annotations

import pytest

from zrepl_trio.config.hostnames import is_host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.example.com.",
        "a" * 63 + ".com",
        "bücher.example",
        "_x-y.z",
        "192.0.2.1",
        "::1",
        "fe80::1%eth0",
        "::ffff:192.0.2.1",
    ],
)
def test_what_may_be_a_host(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text", ["a..b", ".x", ".", "a" * 64, "a" * 64 + ".com", "é" * 60, "a\0b", "\ud800"]
)
def test_what_can_be_none(text: str) -> None:
    assert not is_host(text)
