"""The emulation's stream: any changes, any cut, any offset, any damage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.stream import (
    CHUNK,
    BadStream,
    Decoder,
    Entry,
    begin_stream,
    body,
    body_size,
    changes,
    decode_entry,
    decode_fields,
    decode_token,
    encode_fields,
    encode_token,
    end_stream,
    record,
    split_records,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
KEYS = st.text("abc.:", min_size=1, max_size=10)
TREES = st.dictionaries(
    st.sampled_from(["a", "b", "b/c", "d e"]),
    st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 20, CHUNK - 1, CHUNK, CHUNK + 1])),
)
Tree = dict[str, tuple[int, int]]
"""Files as (byte, how often)."""


def files_of(tree: Tree) -> dict[str, bytes]:
    return {path: bytes([byte]) * count for path, (byte, count) in tree.items()}


def manifest(tree: Tree) -> dict[str, Entry]:
    return {path: Entry("f", 0o644, 0, len(data), data) for path, data in files_of(tree).items()}


def read(_path: str, entry: Entry, position: int, count: int) -> bytes:
    assert isinstance(entry.blob, bytes)
    return entry.blob[position : position + count]


def applied(base: dict[str, bytes], pieces: bytes) -> dict[str, bytes]:
    """What a receiver makes of a body."""
    files = dict(base)
    open_path, left = "", 0
    for kind, payload, _ in split_records(pieces):
        if kind == b"X":
            del files[decode_fields(payload)["path"]]
        elif kind == b"F":
            open_path, entry = decode_entry(payload)
            files[open_path], left = b"", entry.size
        else:
            files[open_path] += payload
            left -= len(payload)
    assert left == 0
    return files


@given(fields=st.dictionaries(KEYS, TEXT))
def test_fields_survive(fields: dict[str, str]) -> None:
    assert decode_fields(encode_fields(fields)) == fields


def test_names_that_are_no_text_survive() -> None:
    fields = {"path": b"caf\xe9".decode("utf-8", "surrogateescape")}
    assert decode_fields(encode_fields(fields)) == fields


@settings(deadline=None)
@given(old=TREES, new=TREES)
def test_changes_turn_old_into_new(old: Tree, new: Tree) -> None:
    wanted = changes(manifest(old), manifest(new))
    whole = b"".join(body(wanted, read))
    assert len(whole) == body_size(wanted)
    assert applied(files_of(old), whole) == files_of(new)


@settings(deadline=None)
@given(new=TREES)
def test_every_record_boundary_is_a_place_to_resume(new: Tree) -> None:
    wanted = changes(None, manifest(new))
    whole = b"".join(body(wanted, read))
    ends = [0, *(end for _, _, end in split_records(whole))]
    for end in ends:
        assert whole[:end] + b"".join(body(wanted, read, offset=end)) == whole
    for inside in {end + 1 for end in ends}:
        with pytest.raises(BadStream):
            list(body(wanted, read, offset=inside))


@settings(deadline=None)
@given(data=st.data(), new=TREES)
def test_decoder_takes_any_chunking(data: st.DataObject, new: Tree) -> None:
    wanted = changes(None, manifest(new))
    stream = begin_stream({"a": "b"}) + b"".join(body(wanted, read)) + end_stream(body_size(wanted))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    decoder, found = Decoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[begin:end])
    assert found == Decoder().feed(stream)
    assert (found[0], found[-1][0]) == ((b"B", b"a=b"), b"E")


@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_is_found(at: int, value: int) -> None:
    wanted = changes(None, manifest({"a": (7, 9), "b": (0, 0)}))
    stream = bytearray(begin_stream({}) + b"".join(body(wanted, read)) + end_stream(1))
    at %= len(stream)
    if stream[at] == value:
        return
    whole = len(Decoder().feed(bytes(stream)))
    stream[at] = value
    try:
        found = Decoder().feed(bytes(stream))
    except BadStream:
        return
    # A length that grew looks like a stream that goes on: the end never comes.
    assert len(found) < whole


@given(noise=st.binary(max_size=200))
def test_noise_is_no_stream(noise: bytes) -> None:
    decoder = Decoder()
    try:
        assert decoder.feed(noise) == []
    except BadStream:
        return


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../b", ".", "a\0b", "a/"])
def test_paths_that_would_leave_the_dataset_are_refused(path: str) -> None:
    fields = {"path": path, "kind": "f", "mode": "644", "mtime": "0", "size": "0"}
    with pytest.raises(BadStream):
        decode_entry(encode_fields(fields))


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"size": "-1"}, {"size": "x"}, {"mode": "9"}, {"kind": "d", "size": "1"}],
)
def test_bad_entries_are_refused(change: dict[str, str]) -> None:
    fields = {"path": "a", "kind": "f", "mode": "644", "mtime": "0", "size": "0", **change}
    with pytest.raises(BadStream):
        decode_entry(encode_fields(fields))


def test_a_huge_record_is_refused_before_it_is_read() -> None:
    decoder = Decoder()
    decoder.feed(begin_stream({}))
    with pytest.raises(BadStream, match="header"):
        decoder.feed(b"D\xff\xff\xff\xff\0\0\0\0")


def test_split_records_stops_at_a_torn_one() -> None:
    whole = record(b"X", b"path=a") + record(b"X", b"path=b")
    assert [payload for _, payload, _ in split_records(whole[:-1])] == [b"path=a"]
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    assert [payload for _, payload, _ in split_records(bytes(damaged))] == [b"path=a"]


@given(fields=st.dictionaries(KEYS, TEXT))
def test_tokens_survive(fields: dict[str, str]) -> None:
    token = encode_token(fields)
    assert decode_token(token) == fields
    for bad in (token[:-1], token + "0", "2" + token[1:], token.replace("-", "x"), ""):
        with pytest.raises(Fault, match="resume token is corrupt"):
            decode_token(bad)
