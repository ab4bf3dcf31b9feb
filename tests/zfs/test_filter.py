from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.filter import Extent, FilesystemFilter, check_pattern
from zrepl_trio.zfs.names import DatasetPath, InvalidName

ROOT_BUT_SECRET = {"<": True, "secret": False}
NESTED = {"tank<": True, "tank/foo<": False, "tank/foo/bar": True}
HOMES = {"tank<": True, "tank/tmp<": False, "tank/home/x<": False, "tank/home/x/1": True}


@pytest.mark.parametrize(
    ("entries", "path", "admitted"),
    [
        ({}, "tank", False),
        ({"<": True}, "any/thing", True),
        ({"<": True}, "pool", True),
        (ROOT_BUT_SECRET, "secret", False),
        (ROOT_BUT_SECRET, "secret/a", True),
        (NESTED, "tank/foo/bar", True),
        (NESTED, "tank/foo/bar/loo", False),
        (NESTED, "tank/bar", True),
        (NESTED, "tank/var/log", True),
        (NESTED, "zroot", False),
        (HOMES, "tank", True),
        (HOMES, "tank/tmp", False),
        (HOMES, "tank/tmp/foo", False),
        (HOMES, "tank/home/x", False),
        (HOMES, "tank/home/y", True),
        (HOMES, "tank/home/x/1", True),
        (HOMES, "tank/home/x/2", False),
        ({"tank/home/bob": True, "tank/home/bob<": False}, "tank/home/bob", True),
        ({"tank/home/bob": True, "tank/home/bob<": False}, "tank/home/bob/downloads", False),
        ({"tank<": True}, "tank2", False),
        ({"tank<": True}, "tan", False),
        ({"tank": True}, "tank/a", False),
    ],
)
def test_filter_decides_as_zrepl_does(entries: dict[str, bool], path: str, admitted: bool) -> None:
    assert FilesystemFilter.of(entries).admits(path) is admitted


@pytest.mark.parametrize(
    ("entries", "paths", "unmatched"),
    [
        ({"<": True}, [], []),
        ({"tank<": True, "tank": False, "tank/a": True}, ["tank"], ["tank/a"]),
        ({"tank/a<": True}, ["tank", "tank/b"], ["tank/a"]),
        ({"tank/a<": True}, ["tank", "tank/a"], []),
    ],
)
def test_entries_that_name_nothing_there_are_told(
    entries: dict[str, bool], paths: list[str], unmatched: list[str]
) -> None:
    assert FilesystemFilter.of(entries).unmatched(paths) == unmatched


@pytest.mark.parametrize(
    ("entries", "subtrees", "alone"),
    [
        ({}, [], []),
        ({"tank/b<": True, "tank/a<": True}, ["tank/a", "tank/b"], []),
        ({"tank<": True, "tank/a<": False, "tank/a/b<": True, "tank/c": True}, ["tank"], []),
        ({"tank/a<": True, "tank/a-b<": True, "tank/a/b<": True}, ["tank/a", "tank/a-b"], []),
        ({"tank": True, "tank/a": True}, [], ["tank", "tank/a"]),
        # what is only excluded is looked for as well: it may be a slip
        ({"tank/a<": True, "tnak/a/b<": False}, ["tank/a"], ["tnak/a/b"]),
        ({"<": False, "tank/a<": True}, ["tank/a"], []),
    ],
)
def test_only_what_can_match_is_to_be_listed(
    entries: dict[str, bool], subtrees: list[str], alone: list[str]
) -> None:
    assert FilesystemFilter.of(entries).extent == Extent(
        subtrees=tuple(map(DatasetPath.parse, subtrees)),
        alone=tuple(map(DatasetPath.parse, alone)),
    )


def test_a_filter_of_everything_wants_all_pools() -> None:
    assert FilesystemFilter.of(ROOT_BUT_SECRET).extent == Extent(everything=True)


def test_select_keeps_the_order() -> None:
    chosen = FilesystemFilter.of(NESTED).select(["tank/foo", "tank/z", "tank/foo/bar", "tank"])
    assert list(chosen) == ["tank/z", "tank/foo/bar", "tank"]


@pytest.mark.parametrize("pattern", ["<", "tank", "tank<", "tank/a b/c:d-e_f.g<"])
def test_legal_patterns(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "empty"),
        ("tank<foo", "only at the end"),
        ("tank<<", "only at the end"),
        ("tank@snap", "'@'"),
        ("tank#mark", "'#'"),
        ("tank|x", "'|'"),
        ("tank\tx", "'\\t'"),
        ("tank>x", "'>'"),
        ("tank/*", "'*'"),
        ("tank/", "write 'tank<'"),
        ("tank/<", "ends with `/`"),
        ("/tank", "empty component"),
        ("tank//a", "empty component"),
        ("tank/../a", "'..'"),
        ("-tank", "starts with '-'"),
        ("t" * 256, "longer than 255"),
    ],
)
def test_illegal_patterns_say_why(pattern: str, words: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_pattern(pattern)
    assert words in str(caught.value)


def test_a_pattern_twice_is_refused() -> None:
    with pytest.raises(InvalidName, match="twice"):
        FilesystemFilter.of([("tank", True), ("tank", False)])


def test_filters_are_values() -> None:
    assert FilesystemFilter.of(NESTED) == FilesystemFilter.of(list(NESTED.items()))
    assert FilesystemFilter.of({"a<": False, "b": False}).rejects_all
    assert not FilesystemFilter.of(NESTED).rejects_all


COMPONENTS = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)
PATTERNS = st.one_of(st.just("<"), PATHS, PATHS.map(lambda path: path + "<"))


@given(st.dictionaries(PATTERNS, st.booleans(), max_size=6), PATHS)
def test_filter_agrees_with_the_rule_read_literally(entries: dict[str, bool], path: str) -> None:
    if path in entries:
        expected = entries[path]
    else:
        parts = path.split("/")
        covering = [
            (len(prefix), verdict)
            for pattern, verdict in entries.items()
            if pattern.endswith("<")
            for prefix in [pattern[:-1].split("/") if pattern != "<" else []]
            if parts[: len(prefix)] == prefix
        ]
        expected = max(covering)[1] if covering else False
    assert FilesystemFilter.of(entries).admits(path) is expected


@given(
    st.dictionaries(
        st.lists(st.sampled_from("ab"), min_size=1, max_size=3)
        .map("/".join)
        .flatmap(lambda path: st.sampled_from([path, path + "<"])),
        st.booleans(),
        max_size=5,
    ),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join).map(DatasetPath.parse),
)
def test_what_is_admitted_lies_in_the_extent(entries: dict[str, bool], path: DatasetPath) -> None:
    chosen = FilesystemFilter.of(entries)
    extent = chosen.extent
    listed = path in extent.alone or any(path.is_at_or_below(root) for root in extent.subtrees)
    assert listed or not (chosen.admits(path) or path in chosen.unmatched([]))
