"""How gRPC writes texts, times and messages, and when it asks whether a peer lives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rpc.grpc_peers import PING_HI
from zrepl_trio.errors import LocalProtocolError, RemoteProtocolError
from zrepl_trio.rpc import grpc
from zrepl_trio.rpc.grpc import MessageTooLarge, UnaryMessage
from zrepl_trio.rpc.keepalive import Action, Keepalive


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", b""),
        ("plain ~text", b"plain ~text"),
        ("100%\nüber\x7f", b"100%25%0A%C3%BCber%7F"),
    ],
)
def test_status_texts_are_percent_coded(text: str, value: bytes) -> None:
    assert grpc.encode_status_text(text) == value
    assert grpc.decode_status_text(value) == text


def test_broken_percent_codes_are_left_alone() -> None:
    assert grpc.decode_status_text(b"%zz 5% %ff%4") == "%zz 5% \ufffd%4"


def test_long_status_texts_are_cut_between_characters() -> None:
    value = grpc.encode_status_text("é" * 5000)
    assert grpc.decode_status_text(value) == "é" * 2048


@given(st.text(max_size=300))
def test_status_texts_come_back(text: str) -> None:
    value = grpc.encode_status_text(text)
    assert all(0x20 <= byte <= 0x7E for byte in value)
    assert grpc.decode_status_text(value) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"29993524u", None), (b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5n", 5e-9)],
)
def test_timeouts_are_read(value: bytes, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(RemoteProtocolError):
            grpc.parse_timeout(b"1" + value)
        assert grpc.parse_timeout(value) == pytest.approx(29.993524)
    else:
        assert grpc.parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"5", b"S", b"1.5S", b"-1S", b"5s", b"5S\n", b"999999999S"])
def test_bad_timeouts_are_refused(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        grpc.parse_timeout(value)


def test_a_message_is_framed_as_zrepl_does() -> None:
    assert grpc.frame_message(PING_HI) == bytes.fromhex("00000000040a026869")
    assert grpc.frame_message(b"") == bytes(5)
    with pytest.raises(LocalProtocolError):
        grpc.frame_message(bytes(4_194_305))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\1\0\0\0\1x", "compressed"),
        (b"\0\0\0\0\1xy", "more than one"),
        (b"\0\0\x40\0\1", "over 4194304"),
    ],
)
def test_bad_messages_are_refused_at_once(data: bytes, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        UnaryMessage().receive_data(data)


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\0\2x"])
def test_a_cut_message_is_refused_at_the_end(data: bytes) -> None:
    message = UnaryMessage()
    message.receive_data(data)
    with pytest.raises(RemoteProtocolError, match="cut off"):
        message.finish()


def test_a_message_may_come_byte_by_byte() -> None:
    message = UnaryMessage()
    for byte in grpc.frame_message(PING_HI):
        message.receive_data(bytes([byte]))
    assert (message.size, message.finish()) == (9, PING_HI)


def test_the_largest_message_is_taken() -> None:
    message = UnaryMessage()
    message.receive_data(grpc.frame_message(bytes(4_194_304)))
    assert len(message.finish()) == 4_194_304
    with pytest.raises(MessageTooLarge):
        UnaryMessage().receive_data(b"\0" + (4_194_305).to_bytes(4, "big"))


def test_keepalive_asks_once_and_then_gives_up() -> None:
    keepalive = Keepalive(100, 5)
    assert keepalive.next_deadline(100) == 105

    def due(now: float) -> Action:
        return keepalive.on_time(now)

    assert due(104) is Action.NOTHING
    assert due(105) is Action.PING
    assert keepalive.next_deadline(105) == 115
    assert due(114) is Action.NOTHING
    assert due(115) is Action.GIVE_UP
    keepalive.heard(116)
    assert keepalive.next_deadline(130) == 130
    assert due(121) is Action.PING
