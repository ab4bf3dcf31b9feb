"""Copies that were set aside are known by the names that they were given."""

from __future__ import annotations

import pytest

from tests.replication.notation import path
from zrepl_trio.endpoint.aside import copy_around, copy_name
from zrepl_trio.errors import Refused

STAMP = "20261126T030000Z"


@pytest.mark.parametrize("below", ["", "/b", "/b/c.diverged-20270101T000000Z"])
def test_a_copy_and_what_is_in_it_is_known_by_its_name(below: str) -> None:
    copy = copy_name(path("backup/r/a"), STAMP)
    assert copy == f"backup/r/a.diverged-{STAMP}"
    assert copy_around(path(f"{copy}{below}")) == copy


@pytest.mark.parametrize(
    "name",
    [
        "backup/r/a",
        "backup/r/a.diverged-placeholder",
        "backup/r/a.diverged-",
        "backup/r/.diverged-20261126T030000Z",
        "backup/r/a.diverged-by-hand",
        "backup/r/a-diverged-20261126T030000Z",
        "backup/r/a.diverged-20261126T030000Z.mine",
    ],
)
def test_other_names_are_no_copies(name: str) -> None:
    assert copy_around(path(name)) is None
    assert copy_around(path(f"{name}/b")) is None


def test_a_name_that_gets_too_long_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be kept as a copy"):
        copy_name(path(f"tank/{'x' * 245}"), STAMP)
