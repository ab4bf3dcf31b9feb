"""Take-over and return: one side of a site that zrepl runs is ours for a while."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from .daemons import theirs
from .pairs import Pair, joined
from .pools import World
from .returns import there_and_back
from .sshd import Sshd

_names = (f"there{number}" for number in itertools.count(1))


@pytest.fixture(params=[("ssh", False), ("tcp", True)], ids=["pull-ssh", "push-tcp"])
def pair(request: pytest.FixtureRequest, world: World, sshd: Sshd) -> Iterator[Pair]:
    transport, pushes = request.param
    zrepl = theirs()
    with joined(
        world,
        sshd,
        next(_names),
        passive=zrepl,
        proxy=zrepl,
        active=zrepl,
        transport=transport,
        pushes=pushes,
    ) as made:
        yield made


@pytest.mark.parametrize("role", ["passive", "active"])
def test_there_and_back(pair: Pair, role: str) -> None:
    there_and_back(pair, role)
