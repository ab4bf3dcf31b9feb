"""What the commands answer and do beside running daemons, on real OpenZFS."""

from __future__ import annotations

import pytest

from tests.interop.asked import as_is_asked, lane
from tests.interop.pools import World


@pytest.mark.timeout(600)
def test_the_commands_do_as_they_are_asked(world: World) -> None:
    with lane(world) as pair:
        as_is_asked(pair)
