"""The 31-byte messages against the wire reference's vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.transport.banner import BEGIN, HELO, PROXY_ERROR, Greeting, greeting_of, printable


def test_messages_are_the_vectors_of_the_reference() -> None:
    assert HELO.hex() == "535348434f4e5f48454c4f0000000000000000000000000000000000000000"
    assert PROXY_ERROR.hex() == "535348434f4e5f50524f58595f4552524f5200000000000000000000000000"
    assert BEGIN.hex() == "535348434f4e5f424547494e00000000000000000000000000000000000000"


@pytest.mark.parametrize(
    ("message", "greeting"),
    [
        (HELO, Greeting.HELO),
        (PROXY_ERROR, Greeting.PROXY_ERROR),
        (BEGIN, Greeting.NOISE),
        (b"Welcome to Debian GNU/Linux 12!", Greeting.NOISE),
        (b"\n" + HELO[:-1], Greeting.NOISE),
        (HELO[:-1] + b"\n", Greeting.NOISE),
    ],
)
def test_greetings_are_told_apart(message: bytes, greeting: Greeting) -> None:
    assert len(message) == 31
    assert greeting_of(message) is greeting


@given(st.binary())
def test_what_is_shown_cannot_act_on_a_terminal(data: bytes) -> None:
    text = printable(data)
    assert text.isascii()
    assert text.isprintable()


def test_what_is_shown_can_be_read() -> None:
    assert printable(b"Last login: \x1b[31mnow\n\0\0") == r"'Last login: \x1b[31mnow\n'"
    assert printable(b"\xff\xfe") == r"'\\xff\\xfe'"
