"""Pulls between zrepl and zrepl-trio, both ways, behind either one's `stdinserver`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from .daemons import Program, ours, theirs
from .pairs import Pair, joined
from .pools import World
from .scenarios import an_initial_send_is_resumed, full_incremental_and_resumed
from .sshd import Sshd

_names = (f"pair{number}" for number in itertools.count(1))

ROLES = {
    "we-pull-their-proxy": (theirs, theirs, ours),
    "we-pull-our-proxy": (theirs, ours, ours),
    "they-pull-our-proxy": (ours, ours, theirs),
    "they-pull-their-proxy": (ours, theirs, theirs),
}


@pytest.fixture(params=list(ROLES.values()), ids=list(ROLES))
def pair(
    request: pytest.FixtureRequest, world: World, sshd: Sshd, tmp_path: Path
) -> Iterator[Pair]:
    passive, proxy, active = (make() for make in request.param)
    assert isinstance(passive, Program)
    with joined(
        world, sshd, tmp_path, next(_names), passive=passive, proxy=proxy, active=active
    ) as made:
        yield made


def test_full_incremental_and_resumed(pair: Pair) -> None:
    full_incremental_and_resumed(pair)


def test_an_initial_send_is_resumed(pair: Pair) -> None:
    an_initial_send_is_resumed(pair)
