from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from zrepl_trio.rpc import frames
from zrepl_trio.rpc.frames import FrameHeader, FrameParser, FrameType


def test_the_empty_frames_are_zrepls() -> None:
    assert bytes.fromhex("0100000000000000") == frames.HEARTBEAT
    assert bytes.fromhex("1000000000000000") == frames.RESET
    assert frames.encode_header(FrameType.END, 0) == bytes.fromhex("0002000000000000")


@pytest.mark.parametrize("kind", list(FrameType))
def test_headers_come_back_as_they_went(kind: FrameType) -> None:
    for length in {0, min(frames.MAX_RECEIVED_PAYLOAD[kind], 7)}:
        data = int(kind).to_bytes(4, "big") + length.to_bytes(4, "big")
        assert frames.decode_header(data) == FrameHeader(kind, length)


@pytest.mark.parametrize(
    "kind", [0, 6, 0x0200_0000, 0x0004_0000, 0x2000_0000, 0xFFFF_FFFF, 0x0003_0000]
)
def test_an_unknown_type_is_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown type"):
        frames.decode_header(kind.to_bytes(4, "big") + bytes(4))


@pytest.mark.parametrize("kind", list(FrameType))
def test_an_oversize_length_is_refused_before_any_payload(kind: FrameType) -> None:
    length = frames.MAX_RECEIVED_PAYLOAD[kind] + 1
    with pytest.raises(RemoteProtocolError, match=f"{length} bytes"):
        frames.decode_header(int(kind).to_bytes(4, "big") + length.to_bytes(4, "big"))


def test_we_write_no_frame_that_zrepl_would_not() -> None:
    with pytest.raises(LocalProtocolError):
        frames.encode_header(FrameType.ZFS_STREAM, 524_289)
    with pytest.raises(LocalProtocolError):
        frames.encode_header(FrameType.END, 1)


def test_long_content_is_cut_into_full_frames() -> None:
    data = frames.encode_frames(FrameType.ZFS_STREAM, bytes(1_048_576 + 1))
    head = bytes.fromhex("0000000500080000")
    assert data[:8] == head
    assert data[8 + 524_288 :][:8] == head
    assert data[2 * (8 + 524_288) :] == bytes.fromhex("000000050000000100")
    assert frames.encode_frames(FrameType.REQ_STRUCTURED, b"") == b""


def test_the_parser_asks_for_no_byte_beyond_the_frame() -> None:
    parser = FrameParser()
    assert parser.want == 8
    parser.receive_data(bytes.fromhex("000000"))
    assert parser.want == 5
    assert parser.next_header() is None
    assert parser.mid_frame
    parser.receive_data(bytes.fromhex("0500000003"))
    assert parser.want == 0
    assert parser.next_header() == FrameHeader(FrameType.ZFS_STREAM, 3)
    assert (parser.want, parser.buffered) == (3, 0)
    parser.receive_data(b"a")
    assert parser.take_payload(10) == b"a"
    assert parser.payload_left == 2
    parser.payload_moved(2)
    assert (parser.want, parser.payload_left, parser.mid_frame) == (8, 0, False)


def test_payload_cannot_be_skipped_or_moved_wrongly() -> None:
    parser = FrameParser()
    parser.receive_data(bytes.fromhex("0000000500000003"))
    parser.next_header()
    with pytest.raises(LocalProtocolError, match="not taken"):
        parser.next_header()
    with pytest.raises(LocalProtocolError):
        parser.payload_moved(4)
    parser.receive_data(b"x")
    with pytest.raises(LocalProtocolError, match="wait in the parser"):
        parser.payload_moved(1)


def read_all(parser: FrameParser) -> list[tuple[FrameHeader, bytes]]:
    found = []
    while header := parser.next_header():
        found.append((header, parser.take_payload(header.length)))
    return found


_FRAMES = st.lists(
    st.tuples(st.sampled_from([t for t in FrameType if t < FrameType.END]), st.binary(max_size=40))
)


@given(_FRAMES, st.data())
def test_cuts_on_the_wire_make_no_difference(
    sent: list[tuple[FrameType, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(int(t).to_bytes(4, "big") + len(p).to_bytes(4, "big") + p for t, p in sent)
    whole = FrameParser()
    whole.receive_data(wire)
    expected = [(FrameHeader(t, len(p)), p) for t, p in sent]
    assert read_all(whole) == expected

    pieces = FrameParser()
    found: list[tuple[FrameHeader, bytes]] = []
    header: FrameHeader | None = None
    payload = b""
    while wire or pieces.buffered:
        if wire and pieces.want:
            count = data.draw(st.integers(1, pieces.want))
            pieces.receive_data(wire[:count])
            wire = wire[count:]
        if header is None:
            header, payload = pieces.next_header(), b""
        if header is not None:
            payload += pieces.take_payload(5)
            if not pieces.payload_left:
                found.append((header, payload))
                header = None
    assert found == expected


@given(st.binary(max_size=300))
def test_noise_is_only_ever_a_protocol_error(data: bytes) -> None:
    parser = FrameParser()
    parser.receive_data(data)
    try:
        while header := parser.next_header():
            parser.take_payload(header.length)
            if parser.payload_left:
                break
    except ProtocolError:
        pass
