"""The picture of a pruning, as JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pruning.policies import policy
from tests.replication.notation import path, version
from zrepl_trio.pruning.plan import FilesystemPrune, judge
from zrepl_trio.pruning.report import FilesystemPruneReport


@pytest.mark.parametrize(
    ("creation", "date"),
    [
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (1 << 40, "9999-12-31T23:59:59Z"),
        (-(1 << 62), "0001-01-01T00:00:00Z"),
    ],
)
def test_any_time_of_a_snapshot_can_be_shown(creation: int, date: str) -> None:
    listed = [replace(version("@a,1"), creation=creation), replace(version("@b,2"), creation=1)]
    going = policy({"type": "regex", "regex": "nothing"})
    plan = FilesystemPrune(path=path("tank/a"), judgements=judge(listed, going, None))
    shown = FilesystemPruneReport.of(plan).to_json()
    assert isinstance(shown, dict)
    assert shown["SnapshotList"] == shown["DestroyList"]
    assert shown["SnapshotList"] == [
        {"Name": "a", "Replicated": False, "Date": date},
        {"Name": "b", "Replicated": False, "Date": "1970-01-01T00:00:01Z"},
    ]
