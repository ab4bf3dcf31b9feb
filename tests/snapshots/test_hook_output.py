"""A program's output in the pieces that are logged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.snapshots.hook_output import MOST_OF_LINE, HookOutput, last_lines, most_lines

MIB = 1 << 20


def logged(*chunks: bytes, most_bytes: int = MIB, lines: int = 1000) -> tuple[list[str], bool]:
    output = HookOutput(most_bytes=most_bytes, most_lines=lines)
    for chunk in chunks:
        output.add(chunk)
    return list(output.end()), output.dropped


def test_lines_are_given_as_they_come() -> None:
    output = HookOutput(most_bytes=MIB, most_lines=1000)
    output.add(b"one\n\ntw")
    assert [output.next(), output.next(), output.next()] == ["one", "", None]
    output.add(b"o\nthr")
    assert [output.next(), output.next()] == ["two", None]
    assert list(output.end()) == ["thr"]
    assert (list(output.end()), output.dropped) == ([], False)


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_a_long_line_is_whole_in_pieces(newline: bytes) -> None:
    pieces, dropped = logged(b"x" * 12003 + newline)
    assert [len(piece) for piece in pieces] == [MOST_OF_LINE, MOST_OF_LINE, 3811]
    assert not dropped


@given(st.text(st.sampled_from("aä\n"), min_size=1), st.integers(1, 5))
def test_however_it_is_cut_it_says_the_same(text: str, size: int) -> None:
    data = text.encode()
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert logged(*chunks) == logged(data)
    assert logged(data)[0] == text.removesuffix("\n").split("\n")


def test_no_more_than_its_bytes_is_said() -> None:
    assert logged(b"1234567890\nmore\n", most_bytes=4) == (["1234"], True)
    assert logged(b"12", b"34", b"5", b"6", most_bytes=4) == (["1234"], True)
    assert logged(b"12", b"34", most_bytes=4) == (["1234"], False)


def test_no_more_than_its_lines_is_said_however_short_they_are() -> None:
    assert logged(b"\n" * 65536, b"\n" * 65536, lines=3) == ([""] * 3, True)
    assert logged(b"a\nb\nc", b"\nd", lines=3) == (["a", "b", "c"], True)
    assert logged(b"a\nb\nc\n", lines=3) == (["a", "b", "c"], False)
    assert logged(b"x" * 3 * MOST_OF_LINE, lines=2) == (["x" * MOST_OF_LINE] * 2, True)


def test_of_errors_the_last_lines_are_said() -> None:
    lines = last_lines("\n" * 30000 + "x" * 5000 + "\nend")
    assert len(lines) == 1000
    assert [len(each) for each in lines[-4:]] == [0, MOST_OF_LINE, 904, 3]


def test_who_asks_for_more_bytes_gets_more_lines() -> None:
    assert [most_lines(each) for each in (1, MIB, 10 * MIB)] == [1000, 1000, 10000]
