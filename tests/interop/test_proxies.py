"""A daemon of either implementation behind the other's `stdinserver`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from .daemons import ours, theirs
from .pairs import Pair, joined
from .pools import World
from .scenarios import full_incremental_and_resumed
from .sshd import Sshd

_names = (f"pair{number}" for number in itertools.count(1))

# the passive side, what lets clients in to it, and the active side
ROLES = {
    "we-pull": (theirs, ours, ours, False),
    "they-pull": (ours, theirs, theirs, False),
    "we-push": (theirs, ours, ours, True),
    "they-push": (ours, theirs, theirs, True),
}


@pytest.fixture(params=list(ROLES.values()), ids=list(ROLES))
def pair(request: pytest.FixtureRequest, world: World, sshd: Sshd) -> Iterator[Pair]:
    passive, proxy, active, pushes = request.param
    with joined(
        world,
        sshd,
        next(_names),
        passive=passive(),
        proxy=proxy(),
        active=active(),
        pushes=pushes,
    ) as made:
        yield made


def test_full_incremental_and_resumed_behind_the_others_proxy(pair: Pair) -> None:
    full_incremental_and_resumed(pair)
