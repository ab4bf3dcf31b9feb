"""Hosts as another daemon left them, made with plain `zfs`, and what becomes of them under ours.

Names are zrepl's (behaviour reference 3.1 and 3.6): of 0.7, and of its older versions. Each case ends
with a replication, of which the bytes on the line are counted: nothing that is there is sent again.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .daemons import Daemon
from .pairs import Pair
from .pools import World
from .scenarios import MIB, done

PROPERTIES = "zrepl:placeholder,zrepl-trio:source-guid,mountpoint,readonly,receive_resume_token"
RUNNING = 5  # zrepl-trio's exit status while a daemon has the control socket


@dataclass(frozen=True)
class Sides:
    """Names of the pair's jobs, by what they do."""

    sender: str
    receiver: str


def sides(pair: Pair) -> Sides:
    return Sides("active", "passive") if pair.pushes else Sides("passive", "active")


# What the host is made of


def snapshot(world: World, dataset: str, name: str, mib: float) -> str:
    """New data in the filesystem, made if it is not there, and a snapshot of it; its full name."""
    have = world.run("zfs", "list", "-H", "-o", "name", "-r", dataset.rpartition("/")[0])
    if dataset not in have.splitlines():
        world.run("zfs", "create", dataset)
    content = random.Random(dataset + name).randbytes(int(mib * MIB))
    (world.files(dataset) / name).write_bytes(content)
    world.run("zfs", "snapshot", f"{dataset}@{name}")
    return f"{dataset}@{name}"


def guid(world: World, name: str) -> str:
    return f"{int(world.value('guid', name)):016x}"


def send(world: World, words: str, target: str, *, cut_at: int | None = None) -> None:
    """`zfs send WORDS | zfs recv -u TARGET`, as a zrepl did it; or cut there, which leaves a token."""
    if cut_at is None:
        world.run("sh", "-c", f"zfs send {words} | zfs recv -u {target}")
    else:
        world.run(
            "sh", "-c", f"zfs send {words} | head -c {cut_at} | zfs recv -s -u {target} || true"
        )
        assert world.value("receive_resume_token", target.partition("@")[0]) != "-"


def cursor(world: World, snap: str, job: str, kind: str = "zrepl_CURSOR") -> str:
    """That job's cursor bookmark of the snapshot; its full name."""
    dataset = snap.partition("@")[0]
    name = f"{dataset}#{kind}_G_{guid(world, snap)}_J_{job}"
    world.run("zfs", "bookmark", snap, name)
    return name


def tentative(world: World, snap: str, job: str) -> str:
    return cursor(world, snap, job, "zrepl_CURSORTENTATIVE_")


def hold(world: World, snap: str, tag: str) -> None:
    world.run("zfs", "hold", tag, snap)


def parents(pair: Pair, *, mark_by_hash: bool = False) -> list[str]:
    """Placeholders from below root_fs down to the replica's parent, as zrepl makes them."""
    made = []
    parts = pair.replica.split("/")
    for depth in range(3, len(parts)):
        path = "/".join(parts[:depth])
        mark = hashlib.new("sha512_256", path.encode()).hexdigest() if mark_by_hash else "on"
        pair.world.run(
            "zfs", "create", "-o", f"zrepl:placeholder={mark}", "-o", "mountpoint=none", path
        )
        made.append(path)
    return made


def placeholder_mark(world: World, dataset: str) -> str:
    return world.value("zrepl:placeholder", dataset)


# What is seen


def bookmarks(world: World, dataset: str) -> set[str]:
    """Full names, of the filesystem and those below it."""
    listed = world.run("zfs", "list", "-H", "-o", "name", "-t", "bookmark", "-r", dataset)
    return set(listed.splitlines())


def holds(world: World, dataset: str) -> set[tuple[str, str]]:
    """Snapshot and tag, of the filesystem and those below it."""
    listed = world.run("zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-r", dataset)
    if not listed:
        return set()
    lines = world.run("zfs", "holds", "-H", *listed.splitlines()).splitlines()
    return {(words[0], words[1]) for words in (line.split("\t") for line in lines)}


def picture(pair: Pair) -> object:
    """All that a command could have changed."""
    world = pair.world
    return [
        [
            world.run("zfs", "list", "-Hp", "-t", "all", "-o", "name,guid,createtxg", "-r", top),
            world.run("zfs", "get", "-Hp", "-r", "-t", "filesystem", PROPERTIES, top),
            holds(world, top),
        ]
        for top in (pair.dataset, pair.replica.rpartition("/")[0])
    ]


# What an admin does


@contextmanager
def stopped(pair: Pair) -> Iterator[None]:
    """Both daemons are down inside, and up again behind."""
    for daemon in (pair.active, pair.passive):
        daemon.process.terminate()
        assert daemon.process.wait(60) == 0
    yield
    for role in ("passive", "active"):
        pair.restart(role)


def command(pair: Pair, daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    """`zrepl-trio --config THAT-DAEMON'S WORDS...`."""
    config = str(daemon.directory / "zrepl.yml")
    return subprocess.run(
        [*daemon.program.argv, "--config", config, *words],
        env=pair.world.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def told(pair: Pair, job: str) -> dict[str, dict[str, Any]]:
    """What `takeover` says of the filesystems of that job, which its daemon has; all is well."""
    done = command(pair, getattr(pair, job), "takeover", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)["Jobs"]
    return {each["Name"]: each for each in found["Filesystems"]}


def outlooks(pair: Pair, job: str) -> dict[str, str]:
    return {name: each["Outlook"] for name, each in told(pair, job).items()}


def refused_while_it_runs(pair: Pair) -> None:
    done = command(pair, pair.active, "takeover")
    assert (done.returncode, done.stdout) == (RUNNING, "")
    assert "zrepl-trio" in done.stderr
    assert "stop it first" in done.stderr


# The cases


def state_of_zrepl_0_7_goes_on(pair: Pair) -> None:
    """Cursors, holds, placeholders and two interrupted steps of 0.7, and what other jobs left."""
    world, jobs = pair.world, sides(pair)
    d, r = pair.dataset, pair.replica
    step, last = f"zrepl_STEP_J_{jobs.sender}", f"zrepl_last_received_J_{jobs.receiver}"
    # of this job, replicated twice; what was stale after the second is there still
    marks = parents(pair)
    first, second = snapshot(world, d, "1", 4), snapshot(world, d, "2", 0.25)
    send(world, first, f"{r}@1")
    send(world, f"-i @1 {second}", f"{r}@2")
    cursor(world, first, jobs.sender)
    tentative(world, first, jobs.sender)
    cursor(world, second, jobs.sender)
    hold(world, first, step)
    hold(world, f"{r}@1", last)
    hold(world, f"{r}@2", last)
    # of other jobs, on the same filesystem
    others = {
        cursor(world, first, "other"),
        tentative(world, second, "other"),
    }
    nobodys = {
        f"{d}#zrepl_CURSOR_G_00000000000000ff_J_{jobs.sender}",  # its own guid is another
        f"{d}#by_hand",
    }
    for name in nobodys:
        world.run("zfs", "bookmark", first, name)
    other_holds = {
        (second, "zrepl_STEP_J_other"),
        (f"{r}@1", "zrepl_last_received_J_other"),
        (first, "by_hand"),
    }
    for name, tag in other_holds:
        hold(world, name, tag)
    # one whose snapshot is gone: the cursor alone can serve
    gone = snapshot(world, f"{d}/gone", "1", 4)
    send(world, gone, f"{r}/gone@1")
    cursor(world, gone, jobs.sender)
    hold(world, f"{r}/gone@1", last)
    world.run("zfs", "destroy", gone)
    # one whose second step was interrupted, one whose first was
    base = snapshot(world, f"{d}/cut", "1", 0.25)
    send(world, base, f"{r}/cut@1")
    cursor(world, base, jobs.sender)
    hold(world, f"{r}/cut@1", last)
    half = snapshot(world, f"{d}/cut", "2", 8)
    send(world, f"-i @1 {half}", f"{r}/cut@2", cut_at=5 * MIB)
    whole = snapshot(world, f"{d}/first", "1", 8)
    send(world, whole, f"{r}/first@1", cut_at=5 * MIB)
    for name in (base, half, whole):
        hold(world, name, step)

    refused_while_it_runs(pair)
    with stopped(pair):
        before = picture(pair)
        assert outlooks(pair, jobs.sender) == {
            d: "continues",
            f"{d}/cut": "continues",
            f"{d}/first": "first",
            f"{d}/gone": "continues",
        }
        assert outlooks(pair, jobs.receiver) == {
            r: "continues",
            f"{r}/cut": "resumes",
            f"{r}/first": "resumes",
            f"{r}/gone": "continues",
            # a sink's root_fs/IDENTITY is no replica
            **dict.fromkeys(marks[1:] if pair.pushes else marks, "nothing"),
        }
        assert picture(pair) == before

    newest = {}
    for name, number in ((d, "3"), (f"{d}/gone", "2")):
        newest[name] = snapshot(world, name, number, 0.25)
    newest |= {f"{d}/cut": half, f"{d}/first": whole}
    count = sum(pair.received())
    done(pair.replicate())

    # what the two interrupted steps lacked, and two small increments: nothing else
    assert 5 * MIB < sum(pair.received()) - count < 10 * MIB
    for dataset, snap in newest.items():
        name = snap.partition("@")[2]
        replica = dataset.replace(d, r, 1)
        assert world.snapshots(replica)[name] == world.snapshots(dataset)[name]
        assert world.value("receive_resume_token", replica) == "-"
    assert [placeholder_mark(world, each) for each in marks] == ["on"] * len(marks)
    # every cursor and hold of the job has moved; no other job's was touched
    moved = {
        f"{dataset}#zrepl_CURSOR_G_{guid(world, snap)}_J_{jobs.sender}"
        for dataset, snap in newest.items()
    }
    assert bookmarks(world, d) == moved | others | nobodys
    replicas = {(snap.replace(d, r, 1), last) for snap in newest.values()}
    assert holds(world, d) | holds(world, r) == replicas | other_holds


def state_of_an_old_zrepl_goes_on(pair: Pair) -> None:
    """Placeholders of 0.0.x, bookmarks named as their snapshots, a first-form cursor; no holds."""
    world, jobs = pair.world, sides(pair)
    d, r = pair.dataset, pair.replica
    marks = parents(pair, mark_by_hash=True)
    filesystems = (d, f"{d}/gone")
    for dataset in filesystems:
        snap = snapshot(world, dataset, "zrepl_20180101_000000_000", 4)
        send(world, snap, snap.replace(d, r, 1))
        world.run("zfs", "bookmark", snap, snap.replace("@", "#"))
        world.run("zfs", "bookmark", snap, f"{dataset}#zrepl_replication_cursor")
    world.run("zfs", "destroy", f"{d}/gone@zrepl_20180101_000000_000")
    old = bookmarks(world, d)

    with stopped(pair):
        before = picture(pair)
        sender, receiver = told(pair, jobs.sender), told(pair, jobs.receiver)
        for dataset in filesystems:
            assert sender[dataset]["Outlook"] == "continues"
            assert "zrepl-trio migrate replication-cursor:v1-v2" in sender[dataset]["Next"]
        assert "0.0.X:0.1:placeholder" in receiver[marks[-1]]["Next"]
        assert picture(pair) == before

    newest = [snapshot(world, dataset, "now", 0.25) for dataset in filesystems]
    count = sum(pair.received())
    done(pair.replicate())

    assert sum(pair.received()) - count < MIB
    for snap in newest:
        assert "now" in world.snapshots(snap.partition("@")[0].replace(d, r, 1))
    cursors = {
        f"{snap.partition('@')[0]}#zrepl_CURSOR_G_{guid(world, snap)}_J_{jobs.sender}"
        for snap in newest
    }
    assert bookmarks(world, d) == old | cursors

    with stopped(pair):
        for job, migration in (
            (jobs.sender, "replication-cursor:v1-v2"),
            (jobs.receiver, "0.0.X:0.1:placeholder"),
        ):
            migrated = command(pair, getattr(pair, job), "migrate", migration)
            assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    kept = {name for name in old if not name.endswith("#zrepl_replication_cursor")}
    assert bookmarks(world, d) == kept | cursors
    assert [placeholder_mark(world, each) for each in marks] == ["on"] * len(marks)
    last = snapshot(world, d, "last", 0.25)
    done(pair.replicate())
    assert "last" in world.snapshots(last.partition("@")[0].replace(d, r, 1))
