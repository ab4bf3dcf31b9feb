from __future__ import annotations

import pytest

from zrepl_trio.endpoint.refusals import AWAITED, FLOOR, HELD, is_left_alone


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        # OpenZFS 2.1 to 2.3, and 2.4
        ("cannot destroy snapshot tank/a@1: dataset is busy", True),
        ("cannot destroy snapshot tank/a@1: it's being held. Run 'zfs holds -r tank/a@1'", True),
        ("cannot destroy 'tank/a@1': snapshot has dependent clones", True),
        ("cannot destroy snapshot tank/a@1: snapshot is cloned", True),
        (f"tank/a@1 {HELD}", True),
        (f"tank/a@1 {AWAITED}", True),
        (f"{FLOOR} job 'sink': last_n 3", True),
        ("cannot destroy snapshots: permission denied", False),
        ("cannot destroy snapshot tank/a@1: I/O error", False),
        ("guid is 0x1, not 0x2: left alone", False),
    ],
)
def test_what_somebody_still_needs_is_no_failure(text: str, stays: bool) -> None:
    assert is_left_alone(text) is stays
