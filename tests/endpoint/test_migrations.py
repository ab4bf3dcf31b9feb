from __future__ import annotations

import pytest

from tests.replication.notation import path, versions
from zrepl_trio.endpoint.migrations import owner_of, plan_cursor_move, wants_placeholder_rewrite
from zrepl_trio.errors import Refused
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import Dataset
from zrepl_trio.zfs.placeholders import legacy_hash

FS = path("tank/a")
V1 = "#zrepl_replication_cursor"
V2 = "#zrepl_CURSOR_G_%016x_J_j,%d"


@pytest.mark.parametrize(
    ("is_placeholder", "value", "wanted"),
    [
        (True, legacy_hash(FS), True),
        (True, "on", False),
        (False, legacy_hash("tank/b"), False),
        (False, "off", False),
        (False, "", False),
    ],
)
def test_only_placeholders_by_hash_are_rewritten(
    is_placeholder: bool, value: str, wanted: bool
) -> None:
    dataset = Dataset(path=FS, guid=1, is_placeholder=is_placeholder, placeholder_value=value)
    assert wants_placeholder_rewrite(dataset) is wanted


def test_the_owner_is_the_only_job_that_admits_it() -> None:
    j, k = FilesystemFilter.of({"tank<": True}), FilesystemFilter.of({"tank/a": True})
    assert owner_of(FS, [("j", j)]) == "j"
    assert owner_of(path("tank/b"), [("j", j), ("k", k)]) == "j"
    assert owner_of(path("other"), [("j", j), ("k", k)]) is None
    with pytest.raises(Refused, match="'j' and 'k' all send tank/a"):
        owner_of(FS, [("j", j), ("k", k)])


@pytest.mark.parametrize("newer", [2, 3])
def test_a_first_cursor_goes_once_todays_has_caught_up(newer: int) -> None:
    move = plan_cursor_move(FS, "j", versions(f"{V1},2 {V2 % (1, 1)} {V2 % (newer, newer)}"))
    assert move is not None
    assert (move.old.guid, move.new.guid) == (2, newer)


@pytest.mark.parametrize("text", ["", f"@zrepl_replication_cursor,1 {V2 % (2, 2)}"])
def test_without_a_first_cursor_there_is_nothing_to_do(text: str) -> None:
    assert plan_cursor_move(FS, "j", versions(text)) is None


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ("", "has no v2 replication cursor"),
        ((V2 % (3, 3)).replace("_J_j", "_J_other"), "has no v2 replication cursor"),
        ((V2 % (3, 3)).replace(",3", ",4"), "has no v2 replication cursor"),
        (V2 % (1, 1), "is newer than the v2 cursor"),
    ],
)
def test_the_first_cursor_stays_while_it_may_be_the_only_base(others: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        plan_cursor_move(FS, "j", versions(f"{V1},2 {others}"))
