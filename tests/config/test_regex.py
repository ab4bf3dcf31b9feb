from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.config.regex import Regex
from zrepl_trio.config.scalars import ScalarError


def test_search_is_unanchored() -> None:
    assert Regex.parse("repl_").search("zrepl_1")
    assert not Regex.parse("^repl_").search("zrepl_1")
    assert Regex.parse("").search("anything")


def test_the_dialect_is_re2s() -> None:
    assert Regex.parse(r"1\z").search("a1")
    assert Regex.parse(r"(?i)ZREPL").search("zrepl")
    assert not Regex.parse("1$").search("a1\n")


@pytest.mark.parametrize("pattern", ["(?=a)", "(?<!a)b", r"(a)\1", "(", "[a", "a**", r"\xg"])
def test_what_is_no_re2(pattern: str) -> None:
    with pytest.raises(ScalarError) as caught:
        Regex.parse(pattern)
    assert "is not a regex: " in caught.value.message
    assert "RE2" in caught.value.accepted


def test_regexes_are_values() -> None:
    assert Regex.parse("a.b") == Regex.parse("a.b") != Regex.parse("a")
    assert len({Regex.parse("a"), Regex.parse("a")}) == 1
    assert str(Regex.parse("^a")) == "^a"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_an_escaped_text_matches_itself(text: str) -> None:
    assert Regex.parse(f"^{Regex.escape(text)}$").search(text)


@given(
    st.from_regex(r"\A\^?[A-Za-z0-9_:-]{0,4}\Z"),
    st.text(st.sampled_from("aAzre_:-0^$\n"), max_size=8),
)
def test_patterns_that_stand_for_themselves_find_what_re2_finds(pattern: str, name: str) -> None:
    assert Regex.parse(pattern).search(name) == Regex.parse(f"(?:{pattern})").search(name)
