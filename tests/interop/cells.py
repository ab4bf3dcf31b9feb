"""What each cell of the matrix demands of a lane: holds, bookmarks, placeholders, pruning, raw sends.

Names of holds and bookmarks are zrepl's (behaviour reference 3.1 and 3.3).
"""

from __future__ import annotations

from pathlib import Path

from .pairs import Lane, Pair
from .scenarios import MIB, done, same, write
from .takeovers import bookmarks, guid, holds, placeholder_mark

KINDS = ("resumability", "incremental", "nothing")


def lanes_of_all_cells(key_file: Path) -> list[Lane]:
    """One for each scenario; `key_file` is for the encrypted one, and has 32 bytes."""
    return [
        Lane("plain"),
        Lane("cut"),
        Lane("first-cut"),
        Lane("torn"),
        Lane(
            "pruned",
            keep_sender='[{type: not_replicated}, {type: last_n, count: 2, regex: ".*"}]',
            keep_receiver='[{type: last_n, count: 3, regex: ".*"}]',
        ),
        *(
            # ours does not look for what to prune where all is kept anyway
            Lane(
                kind,
                protection=f"guarantee_{kind}",
                keep_sender="[{type: last_n, count: 9}]",
                keep_receiver="[{type: last_n, count: 9}]",
            )
            for kind in KINDS
        ),
        Lane("placed", filesystems='{"DATASET<": true, "DATASET/middle": false}'),
        Lane(
            "raw",
            send="{encrypted: true}",
            create=(
                *("-o", "encryption=on", "-o", "keyformat=raw"),
                *("-o", f"keylocation=file://{key_file}"),
            ),
        ),
    ]


def take(pair: Pair, name: str, mib: int = 0) -> str:
    """A snapshot with that much new data; its full name."""
    if mib:
        write(pair, f"data-{name}", mib)
    snapshot = f"{pair.dataset}@{name}"
    pair.world.run("zfs", "snapshot", snapshot)
    return snapshot


def cursor(pair: Pair, snapshot: str, kind: str = "CURSOR") -> str:
    job = pair.job(pair.sender)
    return f"{pair.dataset}#zrepl_{kind}_G_{guid(pair.world, snapshot)}_J_{job}"


def left_behind(pair: Pair) -> tuple[set[str], set[tuple[str, str]]]:
    """Bookmarks and holds of the sender, and the holds of the replica."""
    own = pair.dataset
    return bookmarks(pair.world, own), holds(pair.world, own) | holds(pair.world, pair.replica)


def guaranteed(pair: Pair, kind: str) -> None:
    """What protects a step while it runs, and what is left when it is over."""
    step = f"zrepl_STEP_J_{pair.job(pair.sender)}"
    last = f"zrepl_last_received_J_{pair.job(pair.receiver)}"
    first = take(pair, "1", 1)
    done(pair.replicate())
    pair.active.pruned(pair.job("active"))
    one = pair.replica + "@1"
    after_one: tuple[set[str], set[tuple[str, str]]] = ({cursor(pair, first)}, {(one, last)})
    assert left_behind(pair) == (after_one if kind != "nothing" else (set(), set()))

    second = take(pair, "2", 12)
    # the cursor protects the first as well; zrepl makes another bookmark of it
    marked = (first, second) if pair.is_theirs(pair.sender) else (second,)
    tentative = {cursor(pair, each, "CURSORTENTATIVE_") for each in marked}
    with pair.stalled_at(4 * MIB):
        made = {
            "resumability": (after_one[0], {(first, step), (second, step), (one, last)}),
            "incremental": (after_one[0] | tentative, {(one, last)}),
            "nothing": (set(), set()),
        }
        assert left_behind(pair) == made[kind]
    done(pair.replicate())
    sides = pair.active.pruned(pair.job("active"))
    two = pair.replica + "@2"
    after_two: tuple[set[str], set[tuple[str, str]]] = ({cursor(pair, second)}, {(two, last)})
    assert left_behind(pair) == (after_two if kind != "nothing" else (set(), set()))
    assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)
    # a zrepl does not prune without a cursor, even where no rule needs to know what is replicated
    fails = kind == "nothing" and pair.is_theirs("active")
    assert [side["State"] for side in sides] == ["ExecErr" if fails else "Done"] * 2, sides


def pruned_on_both_sides(pair: Pair) -> None:
    """Either side keeps what its rules say; and a snapshot that somebody holds, whatever they say."""
    world = pair.world
    take(pair, "1", 1)
    done(pair.replicate())
    for name in "2345":
        take(pair, name)
    world.run("zfs", "hold", "by-hand", f"{pair.dataset}@2")
    done(pair.replicate())
    pair.active.pruned(pair.job("active"))
    assert list(world.snapshots(pair.dataset)) == ["2", "4", "5"]
    assert list(world.snapshots(pair.replica)) == ["3", "4", "5"]

    # the base of the next step is there on both sides, and so is what nobody has yet
    for name in "678":
        take(pair, name)
    done(pair.replicate())
    world.run("zfs", "release", "by-hand", f"{pair.dataset}@2")
    done(pair.replicate())
    sides = pair.active.pruned(pair.job("active"))
    assert [side["State"] for side in sides] == ["Done", "Done"]
    assert list(world.snapshots(pair.dataset)) == ["7", "8"]
    assert list(world.snapshots(pair.replica)) == ["6", "7", "8"]


def placed_below_placeholders(pair: Pair) -> None:
    """What is not replicated itself is a placeholder, until it is; a sender's placeholder is one, too."""
    world, d, r = pair.world, pair.dataset, pair.replica
    for name in ("middle", "middle/leaf", "empty", "empty/leaf"):
        world.run("zfs", "create", f"{d}/{name}")
    world.run("zfs", "set", "zrepl:placeholder=on", f"{d}/empty")
    world.run("zfs", "set", "zrepl:placeholder=off", f"{d}/empty/leaf")
    for name in ("", "/middle/leaf", "/empty/leaf"):
        world.run("zfs", "snapshot", f"{d}{name}@1")
    done(pair.replicate())
    parts = r.split("/")
    above = ["/".join(parts[:depth]) for depth in range(4, len(parts))]
    placeholders = [*above, f"{r}/middle", f"{r}/empty"]
    assert {each: placeholder_mark(world, each) for each in placeholders} == dict.fromkeys(
        placeholders, "on"
    )
    assert world.value("mountpoint", f"{r}/middle") == "none"
    for name in ("", "/middle/leaf", "/empty/leaf"):
        assert world.snapshots(f"{r}{name}") == world.snapshots(f"{d}{name}")
    assert world.snapshots(f"{r}/middle") == world.snapshots(f"{r}/empty") == {}

    # the one in the middle is to be replicated from now on
    pair.reconfigure(pair.sender, f'"{d}/middle": false', f'"{d}/middle": true')
    (world.files(f"{d}/middle") / "file").write_bytes(b"at last")
    world.run("zfs", "snapshot", "-r", f"{d}/middle@2")
    done(pair.replicate())
    assert world.snapshots(f"{r}/middle") == world.snapshots(f"{d}/middle")
    assert world.snapshots(f"{r}/middle/leaf") == world.snapshots(f"{d}/middle/leaf")
    assert placeholder_mark(world, f"{r}/middle") == "off"
    assert [placeholder_mark(world, each) for each in above] == ["on"] * len(above)
    assert (world.files(f"{r}/middle") / "file").read_bytes() == b"at last"


def encrypted_and_raw(pair: Pair, key_file: Path) -> None:
    """Raw from end to end, cut and resumed; the receiver never has the key."""
    world, d, r = pair.world, pair.dataset, pair.replica
    take(pair, "1", 12)
    pair.cut_at(6 * MIB)
    pair.replicate()
    assert not pair.cut_is_due
    done(pair.replicate())
    take(pair, "2", 1)
    done(pair.replicate())
    assert 13 * MIB < sum(pair.received()) < 16 * MIB, pair.received()
    assert world.snapshots(r) == world.snapshots(d)
    assert world.value("encryption", r) == world.value("encryption", d) != "off"
    assert world.value("encryptionroot", r) == r
    if world.real:
        assert world.value("keystatus", r) == "unavailable"
        world.run("zfs", "load-key", "-L", f"file://{key_file}", r)
    same(pair)


def one_stops_no_other(pair: Pair) -> None:
    """Of several filesystems one has diverged: the others go on."""
    world = pair.world
    for name in ("good", "torn"):
        world.run("zfs", "create", f"{pair.dataset}/{name}")
    world.run("zfs", "snapshot", "-r", f"{pair.dataset}@a")
    done(pair.replicate())
    world.run("zfs", "snapshot", f"{pair.replica}/torn@local")
    world.run("zfs", "snapshot", "-r", f"{pair.dataset}@b")
    attempts = pair.replicate()["Attempts"]
    assert attempts[-1]["State"] == "filesystem-error"
    assert list(world.snapshots(f"{pair.replica}/good")) == ["a", "b"]
    assert list(world.snapshots(f"{pair.replica}/torn")) == ["a", "local"]
