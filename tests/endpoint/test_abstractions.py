from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replication.notation import path, version
from zrepl_trio.endpoint.abstractions import (
    LEGACY_CURSOR,
    MAX_JOB_NAME,
    Cursor,
    CursorKind,
    cursor_name,
    cursors_of,
    is_own_cursor,
    is_own_tentative,
    last_received_tag,
    newest_cursor,
    parse_cursor,
    parse_last_received_tag,
    parse_step_tag,
    snapshots_held_by,
    step_tag,
    tentative_name,
)
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.model import FilesystemVersion, Hold, VersionKind

FS = path("pool/ds")
jobs = st.text("abcXYZ019-_.: ", min_size=1, max_size=60).filter(lambda t: t not in {".", ".."})
guids = st.integers(0, 2**64 - 1)


def bookmark(name: str, guid: int, txg: int = 1) -> FilesystemVersion:
    return FilesystemVersion(
        kind=VersionKind.BOOKMARK, name=name, guid=guid, createtxg=txg, creation=txg
    )


def test_names_are_zrepls() -> None:
    assert cursor_name(FS, 0xAB, "my job") == "zrepl_CURSOR_G_00000000000000ab_J_my job"
    assert tentative_name(FS, 0xAB, "j") == "zrepl_CURSORTENTATIVE__G_00000000000000ab_J_j"
    assert step_tag("j") == "zrepl_STEP_J_j"
    assert last_received_tag("j") == "zrepl_last_received_J_j"


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        (
            "zrepl_CURSOR_G_932f3a7089080ce2_J_push with legitimate name",
            (CursorKind.CURSOR, 0x932F3A7089080CE2, "push with legitimate name"),
        ),
        (
            "zrepl_CURSORTENTATIVE__G_0000000000000001_J_a",
            (CursorKind.TENTATIVE, 1, "a"),
        ),
        ("zrepl_CURSORTENTATIVE_G_0000000000000001_J_a", None),
        ("zrepl_CURSOR_G_932f3a70_J_job", None),
        ("zrepl_CURSOR_G_932F3A7089080CE2_J_job", None),
        ("zrepl_CURSOR_G_932f3a7089080ce2_J_tab\tin it", None),
        ("zrepl_CURSOR_G_932f3a7089080ce2_J_", None),
        ("zrepl_CURSOR_G_932f3a7089080ce2_J_..", None),
        ("other_CURSOR_G_932f3a7089080ce2_J_job", None),
        ("zrepl_CUSOR_G_932f3a7089080ce2_J_job", None),
        ("zrepl_STEP_G_932f3a7089080ce2_J_job", None),
        # greedy as zrepl: the last guid splits, and the first part is then no prefix
        ("zrepl_CURSOR_G_932f3a7089080ce2_J_x_G_932f3a7089080ce2_J_y", None),
        (LEGACY_CURSOR, None),
        ("", None),
    ],
)
def test_parse_cursor(name: str, parsed: tuple[CursorKind, int, str] | None) -> None:
    expected = Cursor(kind=parsed[0], guid=parsed[1], job=parsed[2]) if parsed else None
    assert parse_cursor(name) == expected


@pytest.mark.parametrize(
    ("tag", "step", "last"),
    [
        ("zrepl_STEP_J_a job", "a job", None),
        ("zrepl_last_received_J_b", None, "b"),
        ("zrepl_STEP_J_", None, None),
        ("xzrepl_STEP_J_a", None, None),
        ("zrepl_last_received_J_a/b", None, None),
        ("zrepl_last_received_J_a\n", None, None),
    ],
)
def test_parse_tags(tag: str, step: str | None, last: str | None) -> None:
    assert parse_step_tag(tag) == step
    assert parse_last_received_tag(tag) == last


@given(jobs, guids)
def test_names_are_recognised_as_their_jobs_own(job: str, guid: int) -> None:
    cursor = bookmark(cursor_name(FS, guid, job), guid)
    tentative = bookmark(tentative_name(FS, guid, job), guid)
    assert is_own_cursor(cursor, job)
    assert not is_own_tentative(cursor, job)
    assert is_own_tentative(tentative, job)
    assert not is_own_cursor(cursor, job + "x")
    assert parse_step_tag(step_tag(job)) == job
    assert parse_last_received_tag(last_received_tag(job)) == job


def test_a_job_named_like_a_cursor_still_finds_its_own() -> None:
    job = "x_G_932f3a7089080ce2_J_y"
    assert is_own_cursor(bookmark(cursor_name(FS, 7, job), 7), job)
    assert not is_own_cursor(bookmark(cursor_name(FS, 7, job), 7), "y")


def test_a_cursor_whose_guid_is_not_its_own_does_not_count() -> None:
    assert not is_own_cursor(bookmark(cursor_name(FS, 7, "j"), 8), "j")
    assert newest_cursor([bookmark(cursor_name(FS, 7, "j"), 8)], "j") is None


def test_a_snapshot_with_a_cursors_name_does_not_count() -> None:
    assert not is_own_cursor(version(f"@{cursor_name(FS, 7, 'j')},7"), "j")


def test_the_newest_cursor_is_by_createtxg_and_the_legacy_one_is_ignored() -> None:
    old, new = bookmark(cursor_name(FS, 9, "j"), 9, 1), bookmark(cursor_name(FS, 3, "j"), 3, 5)
    legacy = bookmark(LEGACY_CURSOR, 4, 9)
    other = bookmark(cursor_name(FS, 4, "k"), 4, 8)
    assert newest_cursor([new, legacy, old, other], "j") == new
    assert cursors_of([new, legacy, other], "j", CursorKind) == [new]


def test_the_longest_job_name_of_a_config_just_fits() -> None:
    assert len(f"{FS}#{tentative_name(FS, 1, 'j' * MAX_JOB_NAME)}") == 255


@pytest.mark.parametrize(
    ("make", "total"), [(cursor_name, 220), (tentative_name, 210)], ids=["cursor", "tentative"]
)
def test_what_is_too_long_is_refused_by_name(make: type, total: int) -> None:
    job = "j" * 100
    exact = path("p/" + "d" * (total - 100 - 2))
    make(exact, 1, job)
    with pytest.raises(Refused, match=r"256 bytes.*shorten .* by 1"):
        make(path(exact + "d"), 1, job)


def test_holds_are_matched_by_the_whole_tag() -> None:
    holds = [Hold(FS, "a", step_tag("j")), Hold(FS, "b", step_tag("jj")), Hold(FS, "c", "mine")]
    assert snapshots_held_by(holds, step_tag("j")) == ("a",)
