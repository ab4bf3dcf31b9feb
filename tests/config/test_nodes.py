from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zrepl_trio.config.nodes import (
    MAX_BYTES,
    MAX_DEPTH,
    Place,
    PlainScalar,
    plain_data,
    read_nodes,
    walk,
)
from zrepl_trio.errors import ConfigErrors


def data(text: str) -> object:
    root, problems = read_nodes(text.encode(), "f.yml")
    assert problems == []
    assert root is not None
    return plain_data(root)


def faults(text: str | bytes) -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    try:
        _, problems = read_nodes(raw, "f.yml")
    except ConfigErrors as error:
        problems = list(error.problems)
    return [str(problem) for problem in problems]


@pytest.mark.parametrize("text", ["on", "010", "1.0", "2024-01-01", "0x1F", "1_000", "1:30", "yes"])
def test_scalars_arrive_as_written(text: str) -> None:
    value = data(f"k: {text}")
    assert value == {"k": text}


def test_whether_a_scalar_was_quoted_is_kept() -> None:
    value = data("a: on\nb: 'on'\nc: \"on\"\nd: !!str on\ne: !!bool 'on'\nf: |-\n  on\ng: ! on\n")
    assert isinstance(value, dict)
    assert [key for key, item in value.items() if isinstance(item, PlainScalar)] == ["a", "e"]
    assert set(value.values()) == {"on"}


@pytest.mark.parametrize("text", ["", " ", "~", "null", "Null", "NULL"])
def test_null_in_all_its_words(text: str) -> None:
    assert data(f"k: {text}") == {"k": None}


@pytest.mark.parametrize("text", ["'~'", '""', "'null'", "nUll"])
def test_what_is_not_null(text: str) -> None:
    assert data(f"k: {text}") == {"k": text.strip("'\"")}


@pytest.mark.parametrize("text", ["", "---", "# comment", "~", "---\n...\n", "\ufeff"])
def test_an_empty_document_is_none(text: str) -> None:
    assert read_nodes(text.encode(), "f.yml") == (None, [])


def test_anchors_and_aliases() -> None:
    value = data("a: &x {k: [1, 2]}\nb: *x\nc: &y text\nd: *y\n")
    assert value == {"a": {"k": ["1", "2"]}, "b": {"k": ["1", "2"]}, "c": "text", "d": "text"}


@pytest.mark.parametrize(
    "merge",
    ["<<: *base\n  own: 2", "own: 2\n  <<: *base", "<<: [*base, *other]\n  own: 2"],
    ids=["before", "after", "list"],
)
def test_merge_keys_fill_in_what_is_not_there(merge: str) -> None:
    text = f"base: &base {{own: 1, more: 1}}\nother: &other {{more: 9}}\nm:\n  {merge}\n"
    value = data(text)
    assert isinstance(value, dict)
    assert value["m"] == {"own": "2", "more": "1"}


def test_a_quoted_merge_sign_is_a_key() -> None:
    assert data("'<<': 1") == {"<<": "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1\nb: 2\na: 3\n",
            "f.yml:3:1: a: duplicate key (first in line 1) (accepted: each key once)",
        ),
        (
            "x:\n  a: 1\n  'a': 2\n",
            "f.yml:3:3: x.a: duplicate key (first in line 2) (accepted: each key once)",
        ),
        ("{a: 1, a: 2}", "f.yml:1:8: a: duplicate key (first in line 1) (accepted: each key once)"),
        (
            "l:\n- b\n- c: {x: 1, x: 2}",
            "f.yml:3:13: l[1].c.x: duplicate key (first in line 3) (accepted: each key once)",
        ),
        ("? [a]\n: 1\n", "f.yml:1:3: a key must be a scalar, not a list or mapping"),
        ("~: 1", "f.yml:1:1: a key is empty"),
        ("a:\n  <<: text\n", "f.yml:2:7: `<<` wants a mapping or a list of mappings"),
        ("a: !foo b", "f.yml:1:4: unknown tag '!foo'"),
        ("a: !!binary aGk=", "f.yml:1:4: unknown tag 'tag:yaml.org,2002:binary'"),
        ("a: !!set {x}", "f.yml:1:4: unknown tag 'tag:yaml.org,2002:set'"),
        ("a: !!python/object:os.system x", "f.yml:1:4: unknown tag"),
        ('a: "\\ud800"', "f.yml:1:4: the text holds half of a surrogate pair"),
        ("a: *x", "f.yml:1:4: `*x` names no anchor"),
        ("cron: */5", "f.yml:1:8: not YAML: a text that starts with `*` needs quotes"),
        ("a: &x [*x]", "f.yml:1:8: `*x` stands inside its own anchor"),
        ("a: 1\n--- \nb: 2\n", "f.yml:2:1: a second document starts here; one file holds one"),
        ("a:\n\tb: 1", "f.yml:2:1: not YAML: a tab where YAML wants spaces"),
        ("a: b: c", "f.yml:1:5: not YAML: a `key:` is not allowed here"),
        ("a: [1, 2", "f.yml:1:9: not YAML: "),
        ("a: {b: 1", "f.yml:1:9: not YAML: "),
        ('a: "open', "f.yml:1:9: not YAML: "),
        ("a: 1\n b: 2", "f.yml:2:3: not YAML: "),
        ("%YAML 9.9\n--- a", "f.yml:1:1: not YAML: "),
        ("a: \x00", "f.yml:1:4: character U+0000 is not allowed in YAML"),
        ("a: 1\nb: \x1b[0m", "f.yml:2:4: character U+001B is not allowed in YAML"),
        ('a: "\\UFFFFFFFF"', "f.yml:1:1: not YAML: "),
    ],
)
def test_faults_carry_their_place(text: str, expected: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(expected)


def test_bytes_that_are_not_utf8_carry_their_place() -> None:
    assert faults(b"a: 1\nb: \xe4\n") == ["f.yml:2:4: not UTF-8 (byte 0xe4)"]
    assert faults("a: ä".encode("utf-16")) == ["f.yml:1:1: not UTF-8 (byte 0xff)"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "{a: " * 5000,
        "- " * 5000,
        "[" * 5000 + "]" * 5000,
        "\n".join(" " * depth + "k:" for depth in range(1000)),
        "? " * 5000,
    ],
    ids=["flow list", "flow map", "block list", "closed", "block map", "complex keys"],
)
def test_deep_nesting_is_refused_and_not_recursed_into(text: str) -> None:
    (fault,) = faults(text)
    assert fault.endswith(f"nested deeper than {MAX_DEPTH} levels")


def test_aliases_cannot_nest_deeper_either() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200))
    (fault,) = faults(text)
    assert "once aliases are expanded" in fault


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    ten = ", ".join
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{ten([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 60))
    (fault,) = faults(text)
    assert "values once aliases are expanded" in fault


def test_a_merge_bomb_stays_small() -> None:
    text = "m0: &m0 {k: v}\n"
    text += "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40))
    (fault,) = faults(text)
    assert "once aliases are expanded" in fault


def test_an_oversized_file_is_refused() -> None:
    assert faults(b"#" * (MAX_BYTES + 1)) == [
        f"f.yml:1:1: the file is larger than {MAX_BYTES} bytes"
    ]
    assert faults(b"#" * MAX_BYTES) == []


def test_walk_finds_the_place_of_a_key() -> None:
    root, _ = read_nodes(b"jobs:\n- type: pull\n  connect:\n    type: ssh\n    port: x\n", "f")
    assert root is not None

    def at(*path: str | int) -> tuple[tuple[str | int, ...], tuple[int, int]]:
        found, place = walk(root, path)
        return found, (place.line, place.column)

    assert at("jobs", 0, "connect", "port") == (("jobs", 0, "connect", "port"), (5, 11))
    # a missing key stands where its mapping is
    assert at("jobs", 0, "connect", "host") == (("jobs", 0, "connect", "host"), (3, 3))
    assert at("jobs", 0, "connect", "port", "[key]")[1] == (5, 5)
    assert at("jobs", 7)[0] == ("jobs",)


def test_walk_takes_pydantics_tags_for_what_they_are() -> None:
    root, _ = read_nodes(b"k:\n- type: grid\n  grid: 1x1h\n  regex: a\n", "f")
    assert root is not None
    assert walk(root, ("k", 0, "grid", "regex"), tagged=True)[0] == ("k", 0, "regex")
    assert walk(root, ("k", 0, "grid", "grid"), tagged=True)[1].line == 3
    assert walk(root, ("k", 0, "grid"), tagged=True)[0] == ("k", 0)
    assert walk(root, ("k", 0, "grid"))[0] == ("k", 0, "grid")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_config_errors(raw: bytes) -> None:
    faults(raw)


YAMLISH = st.text(st.sampled_from("ab:-?[]{}&*!|>'\"%@`#,<~ \n\t0é\\x"), max_size=80)


@given(YAMLISH)
@settings(max_examples=300)
def test_no_yaml_like_text_raises_anything_but_config_errors(text: str) -> None:
    for fault in faults(text):
        assert fault.startswith("f.yml:")
        assert "\n" not in fault


VALUES = st.recursive(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), VALUES, min_size=1, max_size=3))
def test_what_is_rendered_is_read_back(value: object) -> None:
    from zrepl_trio.config.render import as_yaml

    assert data(as_yaml(value)) == value


def test_places_make_problems() -> None:
    problem = Place("f.yml", 3, 5).problem("jobs[0].name", "is wrong", "a name")
    assert str(problem) == "f.yml:3:5: jobs[0].name: is wrong (accepted: a name)"


def test_a_duplicate_within_a_key_that_is_a_mapping_has_no_path_there() -> None:
    _, problems = read_nodes(b"? {a: 1, a: 2}\n: 1\n", "f.yml")
    assert [problem.key for problem in problems] == ["['?'].a", ""]
