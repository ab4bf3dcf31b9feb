"""Write down what a zrepl says on the wire: `ZREPL=/path/to/zrepl python -m tests.interop.capture`.

A first send, an increment, and pruning of both sides, each of the four ways over tcp, on emulated pools.
The files are tests/golden/wire/WAY.json; tests/rpc/test_captured.py replays them without any zrepl.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

from .cells import take
from .pairs import Lane, Pair, lanes
from .pools import two_pools
from .scenarios import done
from .sshd import running_sshd
from .test_matrix import WAYS

GOLDEN = Path(__file__).parents[1] / "golden/wire"
KEEP = '[{type: last_n, count: 1, regex: ".*"}]'


def _file(pair: Pair, content: bytes) -> None:
    (pair.world.files(pair.dataset) / "file").write_bytes(content)


def _captured(pair: Pair) -> dict[str, object]:
    recorded = pair.line / "recorded"
    recorded.mkdir()
    _file(pair, b"one")
    names = [take(pair, "1")]
    done(pair.replicate())
    pair.active.pruned(pair.job("active"))
    _file(pair, b"two")
    guids = {"1": int(pair.world.value("guid", names[0]))}
    guids["2"] = int(pair.world.value("guid", take(pair, "2")))
    done(pair.replicate())
    pair.active.pruned(pair.job("active"))
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


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pools").mkdir()
        with two_pools(directory / "pools") as world, running_sshd(directory / "sshd") as sshd:
            for way, (passive, active, pushes) in WAYS.items():
                home = directory / way
                home.mkdir()
                with lanes(
                    world,
                    sshd,
                    home,
                    way,
                    [Lane("data", keep_sender=KEEP, keep_receiver=KEEP)],
                    passive=passive(),
                    proxy=passive(),
                    active=active(),
                    transport="tcp",
                    pushes=pushes,
                ) as made:
                    captured = _captured(made["data"])
                (GOLDEN / f"{way}.json").write_text(json.dumps(captured, indent=1) + "\n")


if __name__ == "__main__":
    main()
