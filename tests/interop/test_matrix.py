"""Every way to replicate with a zrepl: who does what, by which transport, and what must come of it.

A row is a pair of daemons that lives for all its cells; each cell has a lane of its own. The table of
docs/interop.md has the same rows and columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.hosts import scratch

from . import cells, scenarios
from .daemons import ours, theirs
from .pairs import Pair, lanes
from .pools import World
from .sshd import Sshd

# the passive side, the active one, and whether that pushes
WAYS = {
    "we-pull": (theirs, ours, False),
    "they-pull": (ours, theirs, False),
    "we-push": (theirs, ours, True),
    "they-push": (ours, theirs, True),
}
ROWS = list(itertools.product(("ssh", "tcp", "tls"), WAYS))
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture(scope="module", params=ROWS, ids=["-".join(row) for row in ROWS])
def row(
    request: pytest.FixtureRequest,
    world: World,
    sshd: Sshd,
    key_file: Path,
) -> Iterator[Mapping[str, Pair]]:
    transport, way = request.param
    passive, active, pushes = WAYS[way]
    with (
        scratch() as directory,
        lanes(
            world,
            sshd,
            directory,
            f"row{next(_numbers)}",
            cells.lanes_of_all_cells(key_file),
            passive=passive(),
            proxy=passive(),
            active=active(),
            transport=transport,
            pushes=pushes,
        ) as made,
    ):
        yield made


@pytest.fixture
def pair(request: pytest.FixtureRequest, row: Mapping[str, Pair]) -> Pair:
    """The lane that the test names."""
    return row[request.param]


def lane(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", names, indirect=True)


@lane("plain")
def test_initial_incremental_several_and_nothing_new(pair: Pair) -> None:
    scenarios.full_and_incremental(pair)
    scenarios.same(pair)


@lane("cut")
def test_resumed_after_a_cut(pair: Pair) -> None:
    scenarios.full_incremental_and_resumed(pair)


@lane("first-cut")
def test_an_initial_send_is_resumed(pair: Pair) -> None:
    scenarios.an_initial_send_is_resumed(pair)


@lane("torn")
def test_one_stops_no_other(pair: Pair) -> None:
    cells.one_stops_no_other(pair)


@lane("pruned")
def test_pruned_on_both_sides(pair: Pair) -> None:
    cells.pruned_on_both_sides(pair)


@lane(*cells.KINDS)
def test_guaranteed(pair: Pair) -> None:
    cells.guaranteed(pair, pair.lane.name)


@lane("placed")
def test_placed_below_placeholders(pair: Pair) -> None:
    cells.placed_below_placeholders(pair)


@lane("raw")
def test_encrypted_and_raw(pair: Pair, key_file: Path) -> None:
    cells.encrypted_and_raw(pair, key_file)
