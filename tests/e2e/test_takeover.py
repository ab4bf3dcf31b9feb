"""State that zrepl left, made with plain `zfs` on emulated pools, goes on under our daemons.

On real OpenZFS the same runs in tests/platform.
"""

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
from zrepl_trio.demo.openssh import find_sshd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.sshd,
    pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed"),
]
_names = (f"taken{number}" for number in itertools.count(1))


@pytest.fixture(params=[False, True], ids=["pull", "push"])
def pair(request: pytest.FixtureRequest, world: World, sshd: Sshd) -> Iterator[Pair]:
    pushes: bool = request.param
    with both_ours(world, sshd, next(_names), pushes=pushes) as made:
        yield made


def test_state_of_zrepl_0_7_goes_on(pair: Pair) -> None:
    state_of_zrepl_0_7_goes_on(pair)


def test_state_of_an_old_zrepl_goes_on(pair: Pair) -> None:
    state_of_an_old_zrepl_goes_on(pair)
