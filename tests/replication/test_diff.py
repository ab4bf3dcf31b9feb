from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replication.notation import version, versions
from zrepl_trio.replication.conflicts import MOST_LISTED, conflict_text
from zrepl_trio.replication.diff import (
    AlreadyPresent,
    Conflict,
    Diverged,
    IncrementalPath,
    NoCommonAncestor,
    NoSenderSnapshots,
    incremental_path,
    sorted_versions,
)
from zrepl_trio.zfs.model import FilesystemVersion


@pytest.mark.parametrize(
    ("receiver", "sender", "expected"),
    [
        ("@a,1 @b,2", "@a,1 @b,2 @c,3 @d,4", "@b,2 @c,3 @d,4"),
        ("@a,1 @b,2 @c,3", "@a,1 @c,3 @d,4", "@c,3 @d,4"),
        ("@a,1", "#a,1 @b,2", "#a,1 @b,2"),
        ("@a,1", "#a,1 #b,2 @c,3", "#a,1 @c,3"),
        ("@a,1", "#a,1 @a,1 @b,2", "@a,1 @b,2"),
        ("@a,1", "@a,1 #a,1 @b,2", "@a,1 @b,2"),
        ("@a,1", "@b,2 @a,1 #a,1", "@a,1 @b,2"),
        ("@a,1 #b,2", "@a,1 @c,3", "@a,1 @c,3"),
        # names mean nothing, guids all
        ("@other,1", "@a,1 @b,2", "@a,1 @b,2"),
        # only the receiver's own order counts for what is its newest
        ("@a,1,50 @b,2,60", "@a,1 @b,2 @c,3", "@b,2 @c,3"),
    ],
)
def test_paths(receiver: str, sender: str, expected: str) -> None:
    path = incremental_path(versions(receiver), versions(sender))
    assert isinstance(path, IncrementalPath)
    assert list(path.versions) == versions(expected)
    assert path.ancestor == versions(expected)[0]


@pytest.mark.parametrize(
    ("receiver", "sender", "conflict"),
    [
        ("", "@a,1", NoCommonAncestor),
        ("@a,1 @b,2", "@c,3 @d,4", NoCommonAncestor),
        ("@a,1 @b,2", "@a,1 @b,3", Diverged),
        ("@a,1 @b,2", "@a,1 @b,2", AlreadyPresent),
        ("@c,3", "@a,1 @b,2 @c,3", AlreadyPresent),
        ("@c,3", "#c,3", AlreadyPresent),
        ("", "", NoSenderSnapshots),
        ("@a,1", "", NoSenderSnapshots),
        ("#a,1", "@a,1 @b,2", NoCommonAncestor),
    ],
)
def test_conflicts_carry_both_sorted_lists(
    receiver: str, sender: str, conflict: type[Conflict]
) -> None:
    found = incremental_path(reversed(versions(receiver)), reversed(versions(sender)))
    assert not isinstance(found, IncrementalPath)
    assert type(found) is conflict
    assert found.sender == sorted_versions(versions(sender))
    assert found.receiver == tuple(v for v in versions(receiver) if v.is_snapshot)


def test_a_divergence_tells_what_is_only_on_which_side() -> None:
    found = incremental_path(versions("@a,1 @x,9,2 @y,8,3"), versions("@a,1 #b,2 @b,2 @c,3"))
    assert isinstance(found, Diverged)
    assert found.ancestor == version("@a,1")
    assert list(found.receiver_only) == versions("@x,9,2 @y,8,3")
    assert list(found.sender_only) == versions("@b,2 @c,3")


class TestTexts:
    def test_no_common_ancestor(self) -> None:
        conflict = incremental_path(versions("@a,1 @b,2"), versions("@c,3 #d,4"))
        assert not isinstance(conflict, IncrementalPath)
        assert conflict_text("tank/a", conflict).splitlines() == [
            "tank/a: sender and receiver have no snapshot or bookmark in common",
            "  sender's versions (2):",
            "    @c (guid 0x3)",
            "    #d (guid 0x4)",
            "  receiver's snapshots (2):",
            "    @a (guid 0x1)",
            "    @b (guid 0x2)",
            (
                "  next: rename or destroy the replica on the receiver, so that it is sent anew "
                "(by the job: `conflict_resolution.divergence: keep_copy`); nothing is ever overwritten"
            ),
        ]

    def test_diverged(self) -> None:
        conflict = incremental_path(versions("@a,1 @x,9"), versions("@a,1 @b,2"))
        assert not isinstance(conflict, IncrementalPath)
        assert conflict_text("tank/a", conflict).splitlines() == [
            "tank/a: the receiver has snapshots of its own since the common @a",
            "  only on the receiver (1):",
            "    @x (guid 0x9)",
            "  only on the sender (1):",
            "    @b (guid 0x2)",
            "  common: @a (guid 0x1)",
            (
                "  next: on the receiver, roll the replica back to the common snapshot "
                "(`zfs rollback -r`, destroys its own ones; by the job: "
                "`conflict_resolution.divergence: rollback`), or rename it and let it be sent anew "
                "(by the job: `conflict_resolution.divergence: keep_copy`)"
            ),
        ]

    def test_no_sender_snapshots(self) -> None:
        conflict = incremental_path([], [])
        assert not isinstance(conflict, IncrementalPath)
        assert conflict_text("tank/a", conflict).splitlines() == [
            "tank/a: the sender does not have any versions",
            "  receiver's snapshots: none",
            "  next: take a snapshot of tank/a, or leave it out of `filesystems`",
        ]

    def test_already_present(self) -> None:
        conflict = incremental_path(versions("@a,1"), versions("@a,1"))
        assert not isinstance(conflict, IncrementalPath)
        assert conflict_text("t", conflict) == "t: the receiver has the newest snapshot already"

    def test_long_lists_are_cut_to_the_newest(self) -> None:
        many = versions(" ".join(f"@s{i},{i}" for i in range(1, 31)))
        conflict = incremental_path(versions("@x,99"), many)
        assert not isinstance(conflict, IncrementalPath)
        text = conflict_text("t", conflict)
        assert f"… {30 - MOST_LISTED} older ones" in text
        assert "@s30 (guid 0x1e)" in text
        assert "@s1 (" not in text


def listing(*, bookmarks: bool = True) -> st.SearchStrategy[list[FilesystemVersion]]:
    kinds = "@#" if bookmarks else "@"
    return st.lists(
        st.tuples(st.sampled_from(kinds), st.integers(1, 12)), unique=True, max_size=16
    ).map(lambda pairs: [version(f"{kind}v{guid},{guid}") for kind, guid in pairs])


@given(listing(), listing())
def test_a_path_is_sound(
    receiver: list[FilesystemVersion], sender: list[FilesystemVersion]
) -> None:
    found = incremental_path(receiver, sender)
    if not isinstance(found, IncrementalPath):
        return
    path = found.versions
    assert set(path) <= set(sender)
    assert len(path) >= 2
    assert [v.createtxg for v in path] == sorted({v.createtxg for v in path})
    assert all(v.is_snapshot for v in path[1:])
    newest = max(v.createtxg for v in receiver if v.is_snapshot)
    assert path[0].guid == newest  # guid equals createtxg in these listings
    later = {v.guid for v in sender if v.is_snapshot and v.createtxg > newest}
    assert {v.guid for v in path[1:]} == later


@given(listing(), listing(), st.randoms(use_true_random=False))
def test_the_order_of_listings_means_nothing(
    receiver: list[FilesystemVersion], sender: list[FilesystemVersion], rng: object
) -> None:
    shuffle = getattr(rng, "shuffle")  # noqa: B009
    before = incremental_path(receiver, sender)
    shuffle(receiver)
    shuffle(sender)
    assert incremental_path(receiver, sender) == before


@given(listing(bookmarks=False), listing())
def test_following_the_path_leads_to_already_present(
    receiver: list[FilesystemVersion], sender: list[FilesystemVersion]
) -> None:
    found = incremental_path(receiver, sender)
    if isinstance(found, IncrementalPath):
        receiver = [*receiver, *found.versions[1:]]
        assert isinstance(incremental_path(receiver, sender), AlreadyPresent)
