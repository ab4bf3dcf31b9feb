"""What `zfs` prints of many filesystems with many snapshots, on both sides of a replication."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from zrepl_trio.endpoint.abstractions import cursor_name
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["write_listings", "write_replicated"]


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
        puller_datasets.write(_received("dst", 1, "-"))
        names = ["bench", *(f"bench/group{n // 100:03}/fs{n:05}" for n in range(filesystems))]
        names += [f"bench/group{n:03}" for n in range((filesystems + 99) // 100)]
        for name in sorted(names):
            guid, version, taken = rng.getrandbits(63), 0, 0
            source_datasets.write(_sent(name, guid))
            puller_datasets.write(_received(f"dst/{name}", rng.getrandbits(63), str(guid)))
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


def write_replicated(
    state: Path, below: str, root: str, *, filesystems: int, snapshots: int
) -> None:
    """For `manyzfs.sh`: filesystems below `below`, each of which has all its snapshots below `root` as well."""
    rng = random.Random(1)
    (state / "calls").write_text("")
    replica = f"{root}/{below}"
    parents = [root, *_parents(replica, root)]
    of_below = [below, *(f"{below}/fs{number:05}" for number in range(filesystems - 1))]
    versions: dict[str, list[str]] = {}
    datasets: dict[str, list[str]] = {below.partition("/")[0]: [], root: []}
    for name in parents:
        marked = name != root
        datasets[root].append(_received(name, rng.getrandbits(63), "-", placeholder=marked))
        _write_dataset(state, name, [], placeholder=marked)
    for name in of_below:
        guid = rng.getrandbits(63)
        ours, theirs, version = [], [], 0
        for number in range(snapshots):
            version = rng.getrandbits(63)
            row = f"@zrepl_{number:05}\t{version}\t{1000 * number + 7}\t{1_700_000_000 + number}"
            ours.append(f"{name}{row}\t0\n")
            theirs.append(f"{root}/{name}{row}\t{int(number == snapshots - 1)}\n")
        cursor = cursor_name(DatasetPath(name), version, "source")
        row = f"\t{version}\t{1000 * snapshots - 993}\t{1_700_000_000 + snapshots - 1}\t-\n"
        ours.append(f"{name}#{cursor}{row}")
        pool, there = below.partition("/")[0], f"{root}/{name}"
        datasets[pool].append(_sent(name, guid))
        datasets[root].append(_received(there, rng.getrandbits(63), str(guid)))
        versions.setdefault(pool, []).extend(ours)
        versions.setdefault(root, []).extend(theirs)
        _write_dataset(state, name, ours, placeholder=False)
        _write_dataset(state, there, theirs, placeholder=False)
    for pool, rows in datasets.items():
        (state / f"{pool}.datasets").write_text("".join(rows))
        (state / f"{pool}.versions").write_text("".join(versions[pool]))
    names = [*of_below, *parents, *(f"{root}/{name}" for name in of_below)]
    (state / "names").write_text("".join(f"{name}\n" for name in names))


def _parents(name: str, root: str) -> list[str]:
    found = []
    while (name := name.rpartition("/")[0]) != root:
        found.append(name)
    return found[::-1]


def _write_dataset(state: Path, name: str, versions: list[str], *, placeholder: bool) -> None:
    place = state / "of" / name
    place.mkdir(parents=True)
    (place / "versions").write_text("".join(versions))
    (place / "bookmarks").write_text("".join(row for row in versions if "#" in row))
    mark = "on\tlocal" if placeholder else "-\t-"
    (place / "placeholder").write_text(f"{name}\tzrepl:placeholder\t{mark}\n")
    (place / "token").write_text(f"{name}\treceive_resume_token\t-\t-\n")


def _sent(name: str, guid: int) -> str:
    """As a sender asks for it: rows that it did not ask for, it refuses."""
    rows = (
        ("guid", str(guid), "-"),
        ("zrepl:placeholder", "-", "-"),
        ("encryption", "off", "default"),
    )
    return _rows(name, rows)


def _received(name: str, guid: int, source_guid: str, *, placeholder: bool = False) -> str:
    """As a receiver asks for it."""
    origin = "local" if source_guid != "-" else "-"
    rows = (
        ("guid", str(guid), "-"),
        ("type", "filesystem", "-"),
        ("zrepl:placeholder", "on", "local") if placeholder else ("zrepl:placeholder", "-", "-"),
        ("receive_resume_token", "-", "-"),
        ("written", "0", "-"),
        ("encryption", "off", "default"),
        ("zrepl-trio:source-guid", source_guid, origin),
    )
    return _rows(name, rows)


def _rows(name: str, rows: Iterable[tuple[str, str, str]]) -> str:
    return "".join(f"{name}\t{prop}\t{value}\t{source}\n" for prop, value, source in rows)
