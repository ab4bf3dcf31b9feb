"""Write down what a zrepl says on the wire: `ZREPL=/path/to/zrepl python -m tests.interop.capture`.

A first send, an increment, and pruning of both sides, each of the four ways over tcp, on emulated pools; and what a zrepl says
that cannot send, or receive. The files are tests/golden/wire/WAY.json and WAY-refused.json; tests/rpc/test_captured.py replays
them without any zrepl.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .cells import take
from .faults import FAILS, faulty
from .pairs import Lane, Pair, lanes
from .pools import World, two_pools
from .sshd import Sshd, running_sshd
from .test_matrix import WAYS

GOLDEN = Path(__file__).parents[1] / "golden/wire"
KEEP = '[{type: last_n, count: 1, regex: ".*"}]'


def _file(pair: Pair, content: bytes) -> None:
    (pair.world.files(pair.dataset) / "file").write_bytes(content)


def _run(pair: Pair, name: str) -> int:
    """The guid of the snapshot that it is to replicate."""
    _file(pair, name.encode())
    guid = int(pair.world.value("guid", take(pair, name)))
    pair.replicate()
    pair.active.pruned(pair.job("active"))
    return guid


def _captured(pair: Pair, names: Sequence[str]) -> dict[str, object]:
    recorded = pair.line / "recorded"
    recorded.mkdir()
    guids = {name: _run(pair, name) for name in names}
    pair.received()
    for role in ("active", "passive"):
        pair.ends.stop(role)  # only then has the last connection ended
    said = sorted(recorded.glob("*.client"), key=lambda path: int(path.stem))
    return {
        "dataset": pair.dataset,
        "guids": guids,
        "connections": [
            {
                "client": base64.b64encode(path.read_bytes()).decode(),
                "server": base64.b64encode(path.with_suffix(".server").read_bytes()).decode(),
            }
            for path in said
            # to see whether the relay listens, somebody connected and said nothing
            if path.stat().st_size
        ],
    }


@contextmanager
def _pair(world: World, sshd: Sshd, home: Path, way: str) -> Iterator[Pair]:
    passive, active, pushes = WAYS[way]
    home.mkdir()
    with lanes(
        world,
        sshd,
        home,
        home.name,
        [Lane("data", keep_sender=KEEP, keep_receiver=KEEP)],
        passive=passive(),
        proxy=passive(),
        active=active(),
        transport="tcp",
        pushes=pushes,
    ) as made:
        yield made["data"]


def _write(name: str, captured: dict[str, object]) -> None:
    (GOLDEN / f"{name}.json").write_text(json.dumps(captured, indent=1) + "\n")


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for each in ("pools", "faults"):
            (directory / each).mkdir()
        with two_pools(directory / "pools") as world, running_sshd(directory / "sshd") as sshd:
            for way in WAYS:
                with _pair(world, sshd, directory / way, way) as pair:
                    _write(way, _captured(pair, "12"))
            faults = faulty(world, directory / "faults")
            for way, command in (("we-pull", "hold"), ("we-push", "recv")):
                with (
                    _pair(faults.world, sshd, directory / f"{way}-refused", way) as pair,
                    faults.of(command, "data", FAILS),
                ):
                    _write(f"{way}-refused", _captured(pair, "1"))


if __name__ == "__main__":
    main()
