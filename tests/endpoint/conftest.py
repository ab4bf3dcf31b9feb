from __future__ import annotations

import pytest

from tests.replication.pair import MIB, Pair


@pytest.fixture
async def pair() -> Pair:
    """Two hosts; on the sender `tank/a` has a snapshot `1`."""
    pair = Pair()
    pair.fill("tank/a", MIB)
    await pair.snapshot("tank/a", "1")
    return pair
