"""State that zrepl left on real OpenZFS, made with its own commands, goes on under our daemons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.interop.pairs import Pair, both_ours
from tests.interop.pools import World
from tests.interop.sshd import Sshd
from tests.interop.takeovers import (
    state_of_an_old_zrepl_goes_on,
    state_of_zrepl_0_7_goes_on,
)

pytestmark = pytest.mark.timeout(900)
_names = (f"taken{number}" for number in itertools.count(1))


@pytest.fixture(params=[False, True], ids=["pull", "push"])
def pair(request: pytest.FixtureRequest, world: World, sshd: Sshd) -> Iterator[Pair]:
    pushes: bool = request.param
    with both_ours(world, sshd, next(_names), pushes=pushes) as made:
        yield made


def test_state_of_zrepl_0_7_goes_on(pair: Pair) -> None:
    state_of_zrepl_0_7_goes_on(pair)


# on emulated pools a push is tried, too; the guest takes minutes for each
@pytest.mark.thorough
@pytest.mark.parametrize("pair", [False], ids=["pull"], indirect=True)
def test_state_of_an_old_zrepl_goes_on(pair: Pair) -> None:
    state_of_an_old_zrepl_goes_on(pair)
