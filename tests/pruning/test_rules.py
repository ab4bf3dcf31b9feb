"""The keep rules: every worked example of zrepl's, and what must hold whatever the rules."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from zrepl_trio.config.keep import KeepRule
from zrepl_trio.pruning.rules import Candidate, evaluate, going
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind

_RULES: TypeAdapter[KeepRule] = TypeAdapter(KeepRule)
NOW = 1_700_000_000


def rule(text: str) -> KeepRule:
    """`TYPE key=value key=value`."""
    kind, *words = text.split(" ; ")
    values: dict[str, object] = {"type": kind, **dict(word.split("=", 1) for word in words)}
    if "count" in values:
        values["count"] = int(str(values["count"]))
    if "negate" in values:
        values["negate"] = values["negate"] == "true"
    return _RULES.validate_python(values)


def candidate(name: str, creation: int, number: int = 1, *, replicated: bool = False) -> Candidate:
    snapshot = FilesystemVersion(
        kind=VersionKind.SNAPSHOT, name=name, guid=number, createtxg=number, creation=creation
    )
    return Candidate(snapshot=snapshot, replicated=replicated)


def listed(*entries: tuple[str, int]) -> list[Candidate]:
    """Names and creations in the order of the listing."""
    return [candidate(name, at, number) for number, (name, at) in enumerate(entries, 1)]


def kept(candidates: Sequence[Candidate], *rules: str) -> list[str]:
    verdicts = evaluate(candidates, [rule(text) for text in rules])
    return [verdict.snapshot.name for verdict in verdicts if not verdict.goes]


def by_age(*minutes: int) -> list[Candidate]:
    """Named by their age in minutes, oldest first."""
    return listed(*((str(age), NOW - age * 60) for age in sorted(minutes, reverse=True)))


EVERY_20 = by_age(*range(0, 301, 20))


@pytest.mark.parametrize(
    ("ages", "grid", "keeps"),
    [
        (EVERY_20, "1x1h(keep=all) | 2x1h", "0 20 40 100 160"),
        (EVERY_20, "1x1h(keep=all) | 1x2h(keep=2)", "0 20 40 140 160"),
        (EVERY_20, "2x30m | 1x1h", "20 40 100"),
        (by_age(0, 10, 20, 30), "3x10m", "0 10 20"),
    ],
)
def test_grids_of_the_reference(ages: list[Candidate], grid: str, keeps: str) -> None:
    assert set(kept(ages, f"grid ; regex=. ; grid={grid}")) == set(keeps.split())


def test_a_bucket_keeps_its_oldest() -> None:
    seconds = listed(*((str(t), t) for t in range(1, 6)))
    assert kept(seconds, "grid ; regex=. ; grid=1x1m(keep=2)") == ["1", "2"]


LAST_N = listed(("1", 10), ("3", 15), ("2", 20), ("4", 30), ("5", 30))


@pytest.mark.parametrize(
    ("candidates", "rules", "keeps"),
    [
        (LAST_N, ["last_n ; count=2"], "4 5"),
        (LAST_N, ["last_n ; count=1"], "5"),
        (
            listed(("a1", 10), ("b1", 11), ("a2", 20), ("b2", 21), ("a3", 30), ("b3", 31)),
            ["last_n ; count=2 ; regex=^a", "last_n ; count=2 ; regex=^b"],
            "a2 b2 a3 b3",
        ),
        (listed(("a1", 1), ("b1", 2), ("a2", 3)), ["last_n ; count=4 ; regex=a"], "a1 a2"),
        (
            listed(("foo_123", 1), ("foo_456", 2), ("bar_123", 3)),
            ["regex ; regex=foo_"],
            "foo_123 foo_456",
        ),
        (
            listed(("foo_123", 1), ("foo_456", 2), ("bar_123", 3)),
            ["regex ; regex=foo_", "regex ; regex=bar_"],
            "foo_123 foo_456 bar_123",
        ),
        (
            listed(("foo_123", 1), ("foo_456", 2), ("bar_123", 3)),
            ["regex ; regex=notInS1", "regex ; regex=bar_"],
            "bar_123",
        ),
        (
            listed(("zrepl_foobar", 1), ("zrepl", 2), ("barfoo", 3)),
            ["regex ; regex=^zrepl_ ; negate=true"],
            "zrepl barfoo",
        ),
        (
            listed(
                ("p1_a", 4), ("p2_a", 5), ("p1_b", 14), ("p2_b", 15), ("p1_c", 29), ("p2_c", 30)
            ),
            [
                "grid ; regex=^p1_ ; grid=1x10s | 1x10s",
                "grid ; regex=^p2_ ; grid=1x10s | 1x10s",
            ],
            "p1_b p2_b p1_c p2_c",
        ),
    ],
)
def test_rules_of_the_reference(candidates: list[Candidate], rules: list[str], keeps: str) -> None:
    assert kept(candidates, *rules) == keeps.split()


def test_what_is_not_replicated_is_kept() -> None:
    both = [candidate("old", 1, 1, replicated=True), candidate("new", 2, 2)]
    assert kept(both, "not_replicated") == ["new"]
    (old, new) = evaluate(both, [rule("not_replicated"), rule("regex ; regex=.")])
    assert (old.kept_by, new.kept_by) == ((1,), (0, 1))


def test_without_rules_nothing_goes() -> None:
    assert kept(LAST_N) == ["1", "3", "2", "4", "5"]


snapshots = st.lists(
    st.tuples(
        st.text("abz_", min_size=1, max_size=3), st.integers(NOW - 40_000, NOW), st.booleans()
    ),
    max_size=25,
).map(
    lambda entries: [
        candidate(f"{name}{number}", at, number, replicated=replicated)
        for number, (name, at, replicated) in enumerate(entries)
    ]
)
rules = st.sampled_from(
    [
        "not_replicated",
        "last_n ; count=1",
        "last_n ; count=3 ; regex=^a",
        "regex ; regex=b",
        "regex ; regex=^z ; negate=true",
        "grid ; regex=. ; grid=1x1h(keep=all) | 3x1h",
        "grid ; regex=^a ; grid=2x30m | 1x1h",
        "grid ; regex=_ ; grid=1x1h(keep=2) | 4x2h",
    ]
).map(rule)


@given(snapshots, st.lists(rules, min_size=1, max_size=3), rules)
def test_more_rules_keep_more(
    candidates: list[Candidate], some: list[KeepRule], another: KeepRule
) -> None:
    fewer = {v.snapshot.name for v in evaluate(candidates, some) if not v.goes}
    more = {v.snapshot.name for v in evaluate(candidates, [*some, another]) if not v.goes}
    assert fewer <= more


@given(snapshots, st.lists(rules, min_size=1, max_size=3), st.randoms())
def test_the_order_of_rules_and_of_the_listing_means_nothing(
    candidates: list[Candidate], some: list[KeepRule], rng: random.Random
) -> None:
    # but for snapshots of one second, where zrepl lets the listing decide
    one_a_second = list({each.snapshot.creation: each for each in candidates}.values())
    before = {v.snapshot.name for v in evaluate(one_a_second, some) if not v.goes}
    rng.shuffle(one_a_second)
    rng.shuffle(some)
    assert {v.snapshot.name for v in evaluate(one_a_second, some) if not v.goes} == before


@given(snapshots, st.lists(rules, min_size=1, max_size=3))
def test_what_stays_would_stay_again_unless_a_grid_is_laid_anew(
    candidates: list[Candidate], some: list[KeepRule]
) -> None:
    some = [each for each in some if each.type != "grid"] or [rule("last_n ; count=2")]
    left = [c for c, v in zip(candidates, evaluate(candidates, some), strict=True) if not v.goes]
    assert not any(verdict.goes for verdict in evaluate(left, some))


@given(snapshots, rules)
def test_a_rule_keeps_what_it_names(candidates: list[Candidate], one: KeepRule) -> None:
    verdicts = evaluate(candidates, [one])
    if one.type == "last_n":
        matching = [each for each in candidates if one.regex.search(each.name)]
        assert sum(not v.goes for v in verdicts) == min(one.count, len(matching))
    if one.type == "not_replicated":
        assert all(v.goes == c.replicated for c, v in zip(candidates, verdicts, strict=True))


@given(st.lists(st.integers(NOW - 40_000, NOW), min_size=1, max_size=40))
def test_a_grid_is_what_it_says_it_is(creations: list[int]) -> None:
    """Against buckets written down one by one."""
    candidates = listed(*((str(n), at) for n, at in enumerate(creations)))
    text = "1x1h(keep=all) | 2x1h(keep=2) | 3x2h"
    buckets = [(1, None), (1, 2), (1, 2), (2, 1), (2, 1), (2, 1)]
    expected: set[str] = set()
    younger = float(max(creations))
    for hours, keep in buckets:
        older = younger - hours * 3600
        inside = [(at, n) for n, at in enumerate(creations) if older < at <= younger]
        expected |= {str(n) for _, n in sorted(inside)[:keep]}
        younger = older
    assert set(kept(candidates, f"grid ; regex=. ; grid={text}")) == expected


@given(snapshots, st.lists(rules, max_size=3))
def test_whether_any_goes_is_known_without_a_verdict_on_each(
    candidates: list[Candidate], some: list[KeepRule]
) -> None:
    waiting = [index for index, each in enumerate(candidates) if not each.replicated]
    snapshots = [each.snapshot for each in candidates]
    any_does = any(verdict.goes for verdict in evaluate(candidates, some))
    assert bool(going(snapshots, waiting, some)) == any_does
