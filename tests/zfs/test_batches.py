"""Batches: how they are cut, and whom a refusal names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.batches import (
    MAX_ARGUMENT_BYTES,
    chunked,
    destroy_failures,
    harmless_refusals,
    snapshot_refusals,
)

BUSY = "cannot destroy snapshot tank/a@1: dataset is busy\n"
HELD_REASON = "it's being held. Run 'zfs holds -r tank/a@2 x:y' to see holders."
HELD = f"cannot destroy snapshot tank/a@2 x:y: {HELD_REASON}\n"
SPACE = "cannot create snapshot 'tank/a b@1': out of space\n"
REFUSED = "cannot release hold from snapshot 'tank/a@1': fine\n"


@given(
    names=st.lists(st.text("ab", min_size=1, max_size=200), max_size=50),
    prefix=st.integers(0, 60_000),
    limit=st.integers(1, 2 * MAX_ARGUMENT_BYTES),
)
def test_chunks_keep_order_and_size(names: list[str], prefix: int, limit: int) -> None:
    batches = list(chunked(names, prefix, limit))
    assert [name for batch in batches for name in batch] == names
    for batch in batches:
        assert batch
        size = sum(len(name) + prefix + 1 for name in batch)
        assert size <= limit or len(batch) == 1


@pytest.mark.parametrize(
    ("stderr", "found"),
    [
        ("", None),
        ("cannot destroy snapshot tank/a@1: dataset is busy\n", {"1": "dataset is busy"}),
        (BUSY + HELD, {"1": "dataset is busy", "2 x:y": HELD_REASON}),
        ("cannot destroy snapshot tank/b@1: dataset is busy\n", None),
        ("cannot destroy snapshot tank/a@1: dataset is busy\nmore\n", None),
        ("cannot destroy 'tank/a@1': snapshot has dependent clones\n", None),
    ],
)
def test_destroy_failures(stderr: str, found: dict[str, str] | None) -> None:
    assert destroy_failures(stderr, "tank/a") == found


@pytest.mark.parametrize(
    ("stderr", "found"),
    [
        ("", None),
        ("cannot hold snapshot 'tank/a@1': fine\n", {"1"}),
        (REFUSED + REFUSED.replace("@1", "@2 x:y"), {"1", "2 x:y"}),
        ("cannot hold snapshot 'tank/a@1': not fine\n", None),
        ("cannot hold snapshot 'tank/b@1': fine\n", None),
        ("cannot open 'tank/a': dataset does not exist\n", None),
    ],
)
def test_harmless_refusals(stderr: str, found: set[str] | None) -> None:
    assert harmless_refusals(stderr, "tank/a", ("fine",)) == found


@pytest.mark.parametrize(
    ("stderr", "found"),
    [
        ("", {}),
        (
            "cannot create snapshot 'tank/a@1': dataset already exists\nno snapshots were created\n",
            {"tank/a": "dataset already exists"},
        ),
        (
            SPACE + "cannot create snapshot 'tank/c@1': dataset is busy\n",
            {"tank/a b": "out of space", "tank/c": "dataset is busy"},
        ),
        (
            "cannot open 'tank/a': dataset does not exist\nusage:\n\tsnapshot [-r] ...\n",
            {"tank/a": "dataset does not exist"},
        ),
        ("cannot create snapshots : out of space\nno snapshots were created\n", {}),
    ],
)
def test_snapshot_refusals(stderr: str, found: dict[str, str]) -> None:
    assert snapshot_refusals(stderr) == found
