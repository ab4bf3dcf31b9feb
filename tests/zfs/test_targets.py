from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.names import DatasetPath, InvalidName
from zrepl_trio.zfs.targets import WHOLE, BadTarget, NoPlace, TargetRules

RULES = TargetRules.of(
    {
        "tank/data<": "",
        "tank/data": "data-top",
        "tank/vm<": "machines",
        "tank/vm/db<": "databases/db",
        "rpool<": "os/rpool",
    }
)


def place(rules: TargetRules, wire: str) -> str:
    try:
        there = rules.place(DatasetPath.parse(wire))
    except NoPlace as error:
        return f"! {error}"
    assert rules.wire(there) == wire
    return there


@pytest.mark.parametrize(
    ("wire", "where"),
    [
        ("tank/data/a/b", "a/b"),
        ("tank/data", "data-top"),
        ("tank/vm", "machines"),
        ("tank/vm/web", "machines/web"),
        ("tank/vm/db", "databases/db"),
        ("tank/vm/db/wal", "databases/db/wal"),
        ("tank/vm/db2", "machines/db2"),
        ("rpool/home", "os/rpool/home"),
        ("tank/data/data-top/a", "data-top/a"),
    ],
)
def test_the_exact_entry_decides_then_the_longest(wire: str, where: str) -> None:
    assert place(RULES, wire) == where


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        ("tank", "no entry of `recv.target` matches it"),
        ("tank/database", "no entry"),
        ("tank/data/machines", "machines is the place of the sender's tank/vm"),
        ("tank/data/machines/web", "machines/web is the place of the sender's tank/vm/web"),
        ("tank/data/os", "os is on the way to the target of 'rpool<'"),
        ("tank/data/databases/db/x", "is the place of the sender's tank/vm/db/x"),
        ("tank/data/machines/db", "lies inside the place of the sender's tank/vm "),
    ],
)
def test_what_would_come_into_anothers_place_is_refused_with_its_name(wire: str, why: str) -> None:
    assert why in place(RULES, wire)


def test_what_is_stripped_whole_needs_an_entry_of_its_own() -> None:
    assert "would be the root itself" in place(TargetRules.of({"tank<": ""}), "tank")


def test_the_bare_subtree_adds_a_prefix() -> None:
    rules = TargetRules.of({"<": "hosts/app"})
    assert place(rules, "tank/a") == "hosts/app/tank/a"
    assert rules.wire(DatasetPath("hosts/app")) is None
    assert rules.wire(DatasetPath("hosts/b/tank")) is None


@pytest.mark.parametrize(
    ("entries", "pattern", "why"),
    [
        ({"a<": "x", "b<": "x"}, "b<", "x is the target of 'a<' too"),
        ({"a": "x", "b": "x"}, "b", "x is the target of 'a' too"),
        ({"a": "x", "b<": "x"}, "b<", "x is the target of 'a' too"),
        ({"a<": "", "b<": ""}, "b<", "the root is the target of 'a<' too"),
        ({"a<": "x", "b<": "x/y"}, "b<", "x/y lies inside x, the target of a"),
        ({"b": "x/y/z", "a": "x"}, "b", "x/y/z lies inside x, the target of a"),
        ({"a/b": "x", "a": "x/y"}, "a", "x/y lies inside x, the target of a/b"),
        ({"<": "x/y", "a": "x"}, "<", "x/y lies inside x, the target of a"),
        ({"a": ""}, "a", "would be the root itself"),
    ],
)
def test_entries_that_cannot_keep_apart_are_refused(
    entries: dict[str, str], pattern: str, why: str
) -> None:
    with pytest.raises(BadTarget) as caught:
        TargetRules.of(entries)
    assert caught.value.pattern == pattern
    assert why in str(caught.value)


@pytest.mark.parametrize("target", ["..", "a/../b", "/a", "a/", "-a", "a@b", "d" * 256])
def test_a_target_is_a_path_below_the_root(target: str) -> None:
    with pytest.raises(InvalidName):
        TargetRules.of({"a": target})


@pytest.mark.parametrize(
    "entries",
    [
        {"<": "", "tank/vm/web": "web"},
        {"<": "", "tank/vm/web": "rpool/web"},
        {"<": "t", "tank/vm/web": "t/tank/web"},
        {"a": "x", "a<": "x"},
        {"a": "x", "a<": "y"},
    ],
)
def test_entries_that_mostly_keep_apart_are_taken(entries: dict[str, str]) -> None:
    TargetRules.of(entries)


def test_names_without_a_place_above_names_that_have_one() -> None:
    rules = TargetRules.of({"tank/vm/web": "web", "tank/data<": "", "rpool<": "os"})
    assert rules.without_place() == ["tank", "tank/data", "tank/vm"]
    assert WHOLE.without_place() == []


paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)
patterns = st.one_of(paths, paths.map(lambda path: f"{path}<"), st.just("<"))
NAMES = [
    DatasetPath("/".join(format(bits, "b")[1:].replace("0", "a").replace("1", "b")))
    for bits in range(2, 64)
]


@given(st.dictionaries(patterns, st.one_of(paths, st.just("")), max_size=5))
def test_no_two_names_share_a_place_and_none_lies_in_a_strangers(entries: dict[str, str]) -> None:
    try:
        rules = TargetRules.of(entries)
    except BadTarget:
        return
    owner: dict[DatasetPath, DatasetPath] = {}
    for wire in NAMES:
        try:
            there = rules.place(wire)
        except NoPlace:
            continue
        assert there not in owner
        owner[there] = wire
        assert rules.wire(there) == wire
    for there, wire in owner.items():
        for above in there.ancestors():
            assert above not in owner or wire.is_below(owner[above])
    for local in NAMES:
        name = rules.wire(local)
        assert name is None or rules.place(name) == local
