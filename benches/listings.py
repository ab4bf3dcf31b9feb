"""What `zfs` prints of many filesystems with many snapshots, on both sides of a replication."""

from __future__ import annotations

import random
from pathlib import Path

from zrepl_trio.endpoint.abstractions import cursor_name
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["write_listings"]

_PROPERTIES = (
    ("type", "filesystem", "-"),
    ("zrepl:placeholder", "-", "-"),
    ("receive_resume_token", "-", "-"),
    ("written", "0", "-"),
    ("encryption", "off", "default"),
)


def write_listings(state: Path, *, filesystems: int, snapshots: int) -> None:
    """`source.*` below bench, `puller.*` below dst/bench, which has all of it: nothing is new."""
    rng = random.Random(1)
    sides = {"source": "", "puller": "dst/"}
    for side in sides:
        (state / f"{side}.calls").write_text("")
    with (
        (state / "source.datasets").open("w") as source_datasets,
        (state / "puller.datasets").open("w") as puller_datasets,
        (state / "source.versions").open("w") as source_versions,
        (state / "puller.versions").open("w") as puller_versions,
    ):
        puller_datasets.write(_dataset("dst", 1, "-"))
        names = ["bench", *(f"bench/group{n // 100:03}/fs{n:05}" for n in range(filesystems))]
        names += [f"bench/group{n:03}" for n in range((filesystems + 99) // 100)]
        for name in sorted(names):
            guid, version, taken = rng.getrandbits(63), 0, 0
            source_datasets.write(_dataset(name, guid, "-"))
            puller_datasets.write(_dataset(f"dst/{name}", rng.getrandbits(63), str(guid)))
            for number in range(snapshots):
                version = rng.getrandbits(63)
                taken = 1_700_000_000 + 3600 * number
                snapshot = f"zrepl_{taken}_000"
                row = f"{name}@{snapshot}\t{version}\t{1000 * number + 7}\t{taken}"
                source_versions.write(f"{row}\t0\n")
                held = int(number == snapshots - 1)
                puller_versions.write(f"dst/{row}\t{held}\n")
            cursor = cursor_name(DatasetPath(name), version, "source")
            row = f"{name}#{cursor}\t{version}\t{1000 * snapshots - 993}\t{taken}"
            source_versions.write(f"{row}\t-\n")


def _dataset(name: str, guid: int, source_guid: str) -> str:
    rows = [("guid", str(guid), "-"), *_PROPERTIES]
    origin = "local" if source_guid != "-" else "-"
    rows.append(("zrepl-trio:source-guid", source_guid, origin))
    return "".join(f"{name}\t{prop}\t{value}\t{source}\n" for prop, value, source in rows)
