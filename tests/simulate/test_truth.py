"""What snapshots take up, and what is sent of them."""

from __future__ import annotations

from random import Random

import pytest

from zrepl_trio.simulate.truth import Kept, Origin, Taken, Truth
from zrepl_trio.simulate.workload import Workload


@pytest.mark.parametrize("seed", range(20))
def test_a_thinned_out_row_takes_up_what_its_gaps_do(seed: int) -> None:
    """Whichever go, and however many at once."""
    rng = Random(seed)
    truth, origin, workload = Truth(), Origin("app", "tank"), Workload()
    kept, guids = Kept(truth), list[int]()
    for number in range(200):
        guid = 1000 + number
        truth.take(guid, Taken(origin, number, number << 30, workload))
        guids.append(guid)
        for _ in range(rng.choice((0, 0, 1, 2, 7))):
            if len(guids) > 1:
                guids.pop(rng.randrange(len(guids)))
        gaps = zip([None, *guids], guids, strict=False)
        assert kept.bytes(guids) == sum(truth.sent(base, to) for base, to in gaps)
