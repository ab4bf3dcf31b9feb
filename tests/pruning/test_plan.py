"""What pruning would do to a filesystem: the flag `replicated`, and what stays although rules let it go."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pruning.policies import ALL, LAST_1, NOT_REPLICATED, policy, rules
from tests.replication.notation import version, versions
from zrepl_trio.config.keep import Foreign, keeps_all
from zrepl_trio.pruning.plan import (
    Base,
    Fate,
    PruneSide,
    PruningPolicy,
    base_on_receiver,
    base_on_sender,
    judge,
    may_go,
    misleading,
    rule_text,
)
from zrepl_trio.zfs.model import FilesystemVersion


def fates(listed: list[FilesystemVersion], how: PruningPolicy, base: Base | None) -> dict[str, str]:
    return {each.snapshot.name: each.fate.value for each in judge(listed, how, base)}


FOUR = "@a,1 @b,2 @c,3 @d,4"


@pytest.mark.parametrize(
    ("cursor", "keep_at_cursor", "side", "going"),
    [
        (3, True, PruneSide.SENDER, "a b"),
        (3, False, PruneSide.SENDER, "a b c"),
        (3, False, PruneSide.RECEIVER, "a b"),
        (1, True, PruneSide.SENDER, ""),
        (1, False, PruneSide.SENDER, "a"),
        (4, True, PruneSide.SENDER, "a b c"),
        (99, False, PruneSide.SENDER, ""),
    ],
)
def test_what_is_replicated_is_what_is_older_than_the_cursor(
    cursor: int, keep_at_cursor: bool, side: PruneSide, going: str
) -> None:
    how = policy({**NOT_REPLICATED, "keep_snapshot_at_cursor": keep_at_cursor}, side=side)
    judged = judge(versions(FOUR), how, Base.at(cursor))
    assert " ".join(j.snapshot.name for j in judged if j.fate is Fate.GOES) == going
    assert " ".join(j.snapshot.name for j in judged if j.replicated) == going


def test_bookmarks_are_not_looked_at() -> None:
    judged = judge(versions("#a,1 @b,2 #c,3"), policy(LAST_1), Base.at(1))
    assert [j.snapshot.name for j in judged] == ["b"]


def test_what_is_held_is_never_tried() -> None:
    listed = [version("@a,1", userrefs=2), version("@b,2"), version("@c,3")]
    assert fates(listed, policy(LAST_1), None) == {"a": "held", "b": "goes", "c": "kept"}


@pytest.mark.parametrize(
    ("sender", "receiver", "cursor", "on_sender", "on_receiver"),
    [
        # the cursor is a bookmark, and so is a base even when the sender's snapshot goes
        ("@a,1 @b,2 #cursor,2,2 @c,3", "@a,1 @b,2", 2, set(), {2}),
        # rolled back by hand: what is at the cursor is gone, an older one is all that both have
        ("@a,1 @b,2 #cursor,2,2 @c,3", "@a,1", 2, {1}, {1, 2}),
        # a bookmark that is not the job's own may go at any time
        ("@a,1 #other,1,1 @b,2 #cursor,2,2", "@a,1", 2, {1}, {1, 2}),
        # the receiver is ahead of the cursor: the confirmation was lost
        ("@a,1 #cursor,1,1 @b,2", "@a,1 @b,2", 1, {2}, {1, 2}),
        ("@a,1 #cursor,1,1", None, 1, set(), {1}),
        ("@a,1 #cursor,1,1", "", 1, set(), {1}),
    ],
)
def test_what_the_next_increment_starts_from_stays(
    sender: str, receiver: str | None, cursor: int, on_sender: set[int], on_receiver: set[int]
) -> None:
    ours = versions(sender)
    theirs = None if receiver is None else versions(receiver)
    assert base_on_sender(cursor, ours, theirs).keep == on_sender
    if theirs is not None:
        assert base_on_receiver(cursor, theirs, ours).keep == on_receiver


@pytest.mark.parametrize(
    ("receiver", "going"),
    [
        ("@a,1 @b,2 @c,3", "a b"),
        # it cannot be asked: the cursor tells
        (None, "a b"),
        # rolled back by hand, destroyed by hand, another one of that name
        ("@a,1 @b,2", "a"),
        ("", ""),
        ("@x,77", ""),
        # the confirmation was lost
        ("@a,1 @b,2 @c,3 @d,4", "a b"),
    ],
)
def test_what_the_receiver_has_lost_is_not_replicated(receiver: str | None, going: str) -> None:
    listed = versions("@a,1 @b,2 @c,3 #cursor,3,3 @d,4")
    base = base_on_sender(3, listed, None if receiver is None else versions(receiver))
    judged = judge(listed, policy(NOT_REPLICATED), base)
    assert " ".join(j.snapshot.name for j in judged if j.fate is Fate.GOES) == going


@pytest.mark.parametrize(
    ("wanted", "is_misleading"),
    [
        ({"type": "grid", "grid": "1x1h", "regex": "^f"}, True),
        ({"type": "grid", "grid": "1x1h", "regex": "^a"}, False),
        ({**NOT_REPLICATED, "max_age": "1h"}, True),
        (NOT_REPLICATED, False),
        ({"type": "calendar", "daily": 1}, True),
        (LAST_1, False),
    ],
)
def test_no_age_counts_from_a_time_that_is_yet_to_come(
    wanted: dict[str, object], is_misleading: bool
) -> None:
    future = version("@future,90000")
    listed = [version("@a,1"), future, version("#future,90000")]
    now = version("@a,0").creation
    found = misleading(listed, policy(wanted), now)
    assert found == (future if is_misleading else None)
    assert misleading(listed, policy(wanted), now + 86_400) is None


def test_a_base_stays_whatever_the_rules_say() -> None:
    how = policy({"type": "regex", "regex": "nothing"}, side=PruneSide.RECEIVER)
    assert fates(versions(FOUR), how, Base.at(2, {2})) == {
        "a": "goes",
        "b": "base",
        "c": "goes",
        "d": "goes",
    }


GRID: dict[str, object] = {"type": "grid", "grid": "1x1h", "regex": "^zrepl_"}


@pytest.mark.parametrize(
    ("wanted", "prefix", "foreign"),
    [
        # a rule about all names is about those that the job takes
        ([LAST_1], "zrepl_", True),
        ([GRID], "zrepl_", True),
        ([GRID, {"type": "last_n", "count": 1, "regex": ""}], "zrepl_", True),
        ([GRID, {"type": "last_n", "count": 1, "regex": "^."}], "zrepl_", True),
        ([{**GRID, "regex": "(zrepl_)?"}], "zrepl_", True),
        ([{**GRID, "regex": "[^/]{1,}"}], "zrepl_", True),
        ([GRID, {"type": "last_n", "count": 1, "regex": "[a-z]"}], "zrepl_", False),
        ([GRID, {"type": "last_n", "count": 1, "regex": "^manual"}], "zrepl_", False),
        ([GRID, {"type": "regex", "regex": "^manual", "negate": True}], "zrepl_", False),
        # it takes none itself: those that come are meant, where no rule names others
        ([LAST_1], None, False),
        ([GRID], None, True),
        ([NOT_REPLICATED], None, True),
    ],
)
def test_what_a_job_did_not_take_and_no_rule_names_is_foreign(
    wanted: list[dict[str, object]], prefix: str | None, foreign: bool
) -> None:
    listed = [version("@manual-1,1"), version("@manual-2,2"), version("@zrepl_1,9000")]
    modes: list[tuple[Foreign, str]] = [
        ("ask", "foreign"),
        ("keep", "spared"),
        ("destroy", "goes"),
    ]
    for mode, fate in modes:
        how = policy(*wanted, prefix=prefix, foreign=mode)
        assert fates(listed, how, Base.at(9000))["manual-1"] == (fate if foreign else "goes")
    assert policy(LAST_1, foreign="ask").confirmed().foreign == "destroy"
    assert policy(LAST_1, foreign="keep").confirmed().foreign == "keep"


def test_who_keeps_all_is_known_without_a_look() -> None:
    assert keeps_all(rules(LAST_1, ALL))
    assert keeps_all(())
    assert not keeps_all(rules(LAST_1))
    assert not keeps_all(rules({**ALL, "negate": True}))
    assert not may_go(versions("@a,1 #b,2"), policy(LAST_1))
    assert may_go(versions(FOUR), policy(NOT_REPLICATED)) == set(range(4))


def test_rules_are_told_in_few_words() -> None:
    texts = [rule_text(rule) for rule in rules(LAST_1, GRID, NOT_REPLICATED, ALL)]
    assert texts == ["last_n 1", "grid 1x1h ^zrepl_", "not_replicated", "regex .*"]
    (budget,) = rules({**NOT_REPLICATED, "max_count": 3, "max_age": "2d"})
    assert rule_text(budget) == "not_replicated max_count: 3 max_age: 2d"


SOME_RULES = st.lists(
    st.sampled_from(
        [
            LAST_1,
            {"type": "last_n", "count": 3},
            NOT_REPLICATED,
            {**NOT_REPLICATED, "keep_snapshot_at_cursor": False},
            {**NOT_REPLICATED, "max_count": 1},
            {"type": "grid", "grid": "1x5s | 2x10s", "regex": "."},
            {"type": "calendar", "hourly": 1},
            {"type": "regex", "regex": "[ac]"},
        ]
    ),
    min_size=1,
    max_size=3,
)


@given(
    st.sets(st.integers(1, 30), max_size=12),
    st.sets(st.integers(1, 30), max_size=12),
    st.sets(st.integers(1, 30), max_size=3),
    SOME_RULES,
    st.integers(1, 30),
    st.randoms(),
)
def test_the_newest_common_version_survives_both_sides(
    sender: set[int],
    receiver: set[int],
    bookmarks: set[int],
    wanted: list[dict[str, object]],
    cursor: int,
    rng: random.Random,
) -> None:
    """Whatever is there, whichever the rules: what both had in common, they still have after it."""
    bookmarks = {*bookmarks, cursor}
    ours = sorted(
        [version(f"@{'abc'[n % 3]}{n},{n}") for n in sender]
        + [version(f"#b{n},{n}") for n in bookmarks],
        key=lambda v: v.createtxg,
    )
    theirs = [version(f"@{'abc'[n % 3]}{n},{n}") for n in sorted(receiver)]
    common = max((v.guid for v in ours if v.guid in receiver), default=None)

    def left(side: PruneSide, listed: list[FilesystemVersion], base: Base) -> set[int]:
        gone = {
            j.snapshot.name
            for j in judge(listed, policy(*wanted, side=side), base)
            if j.fate is Fate.GOES
        }
        return {v.guid for v in listed if not (v.is_snapshot and v.name in gone)}

    sender_left = left(PruneSide.SENDER, ours, base_on_sender(cursor, ours, theirs))
    still = [v for v in ours if v.guid in sender_left]
    receiver_left = left(PruneSide.RECEIVER, theirs, base_on_receiver(cursor, theirs, still))
    if common is not None:
        assert common in sender_left
        assert common in receiver_left


@given(st.sets(st.integers(1, 60), max_size=20), SOME_RULES, st.integers(1, 60))
def test_a_second_look_finds_nothing_more_unless_a_grid_is_laid_anew(
    guids: set[int], wanted: list[dict[str, object]], cursor: int
) -> None:
    wanted = [each for each in wanted if each["type"] != "grid"] or [LAST_1]
    listed = [version(f"@{'abc'[n % 3]}{n},{n}") for n in sorted(guids)]
    how, base = policy(*wanted), Base.at(cursor, {cursor})
    going = {j.snapshot.guid for j in judge(listed, how, base) if j.fate is Fate.GOES}
    left = [v for v in listed if v.guid not in going]
    again = [j for j in judge(left, how, base) if j.fate is Fate.GOES]
    assert again == []


@given(st.sets(st.integers(1, 30), max_size=20), SOME_RULES, st.integers(1, 30))
def test_what_goes_is_what_no_rule_keeps(
    guids: set[int], wanted: list[dict[str, object]], cursor: int
) -> None:
    """What is let go is made out first, and by which rules the others are kept once somebody looks."""
    listed = [version(f"@{'abc'[n % 3]}{n},{n}") for n in sorted(guids)]
    how, base = policy(*wanted), Base.at(cursor, {cursor})
    judged = judge(listed, how, base)
    assert [each.snapshot for each in judged] == listed
    assert judged.let_go == tuple(each for each in judged if not each.kept_by)
    assert judged == judge(listed, how, base, may_go(listed, how))
