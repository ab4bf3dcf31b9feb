"""What the commands answer and do beside two daemons that run.

One course of events for all of them: in the guest of `make test-zfs` each run takes its time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from tests.support.hosts import scratch
from zrepl_trio.cli.app import app

from .daemons import ours
from .pairs import Lane, Pair, lanes
from .pools import World
from .scenarios import MIB, done
from .takeovers import bookmarks, command, guid, hold, holds, send, snapshot
from .waiting import until

LANE = Lane(
    "plan",
    filesystems='{"DATASET<": true, "DATASET": false, "DATASET/skip": false}',
    target='{"DATASET<": "", "DATASET/db<": "clients/db", "DATASET/web": "hosts/www"}',
)


@contextmanager
def lane(world: World) -> Iterator[Pair]:
    """The lane of two daemons that are up."""
    us = ours()
    with (
        scratch() as directory,
        lanes(
            world,
            None,
            directory,
            "asked",
            [LANE],
            passive=us,
            proxy=us,
            active=us,
            transport="tcp",
        ) as made,
    ):
        yield made[LANE.name]


_PROPERTIES = "zrepl:placeholder,zrepl-trio:source-guid,mountpoint,readonly,receive_resume_token"


def asked(pair: Pair, *words: str, role: str = "active", status: int = 0) -> str:
    """What the command of that daemon's host printed; it must end with this status. It runs in this
    process: to start one takes the guest of `make test-zfs` seconds."""
    config = str(getattr(pair, role).directory / "zrepl.yml")
    done = CliRunner().invoke(app, ["--config", config, *words], env=pair.world.environment)
    assert done.exit_code == status, (done.output, done.exc_info)
    return done.output


def asked_alone(pair: Pair, *words: str, status: int = 0) -> str:
    """The same of the active daemon's host, in a process of its own."""
    done = command(pair, pair.active, *words)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def everything(pair: Pair) -> list[object]:
    """All that there is on both sides, in all lanes of the daemons: versions, holds, properties."""
    world = pair.world
    columns = "name,type,guid,createtxg,userrefs"  # sizes change until all is written
    return [
        (
            world.run("zfs", "list", "-Hp", "-t", "all", "-o", columns, "-r", pool),
            world.run("zfs", "get", "-Hp", "-r", "-t", "filesystem", _PROPERTIES, pool),
            holds(world, pool),
        )
        for pool in ("zisource", "zibackup")
    ]


def plan_of(pair: Pair, *, status: int = 0) -> dict[str, dict[str, Any]]:
    """`plan --json` of the lane: what it says of each filesystem."""
    shown = json.loads(asked(pair, "plan", "--json", pair.job("active"), status=status))
    (job,) = shown["jobs"]
    return {each["filesystem"]: each for each in job["filesystems"]}


def spans(planned: dict[str, Any]) -> list[tuple[str | None, str, bool]]:
    return [(step["from"], step["to"], step["resumes"]) for step in planned["steps"]]


@dataclass(frozen=True)
class Filesystems:
    """Of the lane, by what is to become of each; `at` tells the replica of each."""

    grown: str
    """New snapshots; its replica is below the root, the prefix of its name stripped."""
    cut: str
    """A partly received snapshot; below `clients/db`."""
    forked: str
    """A snapshot on either side that the other has not."""
    deep: str
    """New, and its parent is not replicated."""
    web: str
    """New, and its name is mapped exactly."""
    at: Mapping[str, str]


def filesystems(pair: Pair) -> Filesystems:
    d, root = pair.dataset, pair.replica.removesuffix(f"/{pair.dataset}")
    at = {
        f"{d}/grown": f"{root}/grown",
        f"{d}/db": f"{root}/clients/db",
        f"{d}/forked": f"{root}/forked",
        f"{d}/skip/deep": f"{root}/skip/deep",
        f"{d}/web": f"{root}/hosts/www",
    }
    grown, cut, forked, deep, web = at
    return Filesystems(grown=grown, cut=cut, forked=forked, deep=deep, web=web, at=at)


def as_is_asked(pair: Pair) -> None:
    """Each command, in the course of two runs."""
    of = filesystems(pair)
    for name in (of.grown, of.cut, of.forked):
        snapshot(pair.world, name, "1", 0.25)
    done(pair.replicate())
    diverge(pair, of)
    before = everything(pair)
    places_are_told(pair, of)
    a_token_is_told(pair, of)
    a_plan_is_shown(pair, of)
    assert everything(pair) == before
    a_reset_stops_and_a_wakeup_waits(pair)
    what_was_planned_is_done(pair, of)
    a_check_goes_by_conflicts_and_ages(pair, of)
    marks_are_listed_made_and_let_go(pair, of)


def diverge(pair: Pair, of: Filesystems) -> None:
    """Something of each kind to do for the next run."""
    world = pair.world
    for name in ("2", "3"):
        snapshot(world, of.grown, name, 1)
    half = snapshot(world, of.cut, "2", 8)
    send(world, f"-i @1 {half}", f"{of.at[of.cut]}@2", cut_at=4 * MIB)
    snapshot(world, of.forked, "2", 0.25)
    world.run("zfs", "snapshot", f"{of.at[of.forked]}@own")
    world.run("zfs", "create", f"{pair.dataset}/skip")
    for name in (of.deep, of.web):
        snapshot(world, name, "1", 0.5)


def places_are_told(pair: Pair, of: Filesystems) -> None:
    """By `test filesystems`, on either side."""
    active, other = pair.job("active"), f"{pair.dataset}x/other"
    for name in (of.grown, of.cut, of.web):
        told = asked(pair, "test", "filesystems", "--job", active, "--input", name)
        assert told == f"ACCEPT\t{name}\t{of.at[name]}\n"
    told = asked(pair, "test", "filesystems", "--job", active, "--input", other)
    assert told.startswith(f"REJECT\t{other}\t")
    words = ("test", "filesystems", "--job", pair.job("passive"), "--all")
    offered = asked(pair, *words, role="passive").splitlines()
    assert set(offered) >= {f"ACCEPT\t{name}\t" for name in of.at}
    assert f"REJECT\t{pair.dataset}/skip\t" in offered


def a_token_is_told(pair: Pair, of: Filesystems) -> None:
    """One of a receive that was cut."""
    world = pair.world
    token = world.value("receive_resume_token", of.at[of.cut])
    decoded = json.loads(asked(pair, "test", "decoderesumetoken", "--token", token))
    assert decoded["ToName"] == f"{of.cut}@2"
    assert str(decoded["ToGUID"]) == world.value("guid", f"{of.cut}@2")
    assert str(decoded["FromGUID"]) == world.value("guid", f"{of.cut}@1")


def a_plan_is_shown(pair: Pair, of: Filesystems) -> None:
    """First sends, increments, a resumption, placeholders, marks, a conflict."""
    world, job = pair.world, pair.job("active")
    shown = asked_alone(pair, "plan", job, status=1)
    assert asked(pair, "run", "--once", "--plan-only", job, status=1) == shown
    for line in (
        f"goes to {of.at[of.web]}",
        "resumes what is partly received",
        f"makes the placeholder {pair.dataset}/skip",
        "sender: the cursor moves to @3",
        "receiver: its hold moves to @3",
        "destroys @own",
    ):
        assert line in shown

    plans = plan_of(pair, status=1)
    assert {name: plan["place"] for name, plan in plans.items()} == of.at
    grown, conflict = plans[of.grown], plans[of.forked]["conflict"]
    assert spans(grown) == [("@1", "@2", False), ("@2", "@3", False)]
    for step in grown["steps"]:
        assert MIB < step["bytes"] < 2 * MIB
    assert grown["steps"][0]["sender_holds"] == ["@1", "@2"]
    last = grown["steps"][-1]
    assert (last["sender_cursor"], last["receiver_hold"]) == ("@3", "@3")
    assert grown["receiver_releases"] == ["@1"]
    assert spans(plans[of.cut]) == [("@1", "@2", True)]
    assert 3 * MIB < plans[of.cut]["steps"][0]["bytes"] < 6 * MIB
    for name in (of.deep, of.web):
        assert spans(plans[name]) == [(None, "@1", False)]
    assert plans[of.deep]["placeholders"] == [f"{pair.dataset}/skip"]
    assert conflict["common"]["guid"] == world.value("guid", f"{of.forked}@1")
    names = {side: [each["name"] for each in conflict[side]] for side in ("sender", "receiver")}
    assert "@2" in names["sender"]
    assert names["receiver"] == ["@1", "@own"]
    ways = {each["name"]: each["destroys"] for each in plans[of.forked]["resolutions"]}
    assert ways["keep_copy"] == []
    assert [each["name"] for each in ways["rollback"]] == ["@own"]


def a_reset_stops_and_a_wakeup_waits(pair: Pair) -> None:
    """The run that is stopped is that of the plan, in the resumption; the next one ends it."""
    active = pair.job("active")
    wakeup = ("signal", "wakeup", "--wait", active)
    with pair.stalled_at(3 * MIB):
        assert "runs already" in asked(pair, *wakeup, status=1)
        asked(pair, "signal", "reset", active)
    told = until(lambda: _ended(pair), "the run ends")
    assert told["Outcome"] == "cancelled"
    # one filesystem cannot be replicated
    assert "forked" in asked_alone(pair, *wakeup, status=1)
    assert "does not run now" in asked(pair, "signal", "reset", active, status=1)


def _ended(pair: Pair) -> dict[str, Any] | None:
    told: dict[str, Any] = pair.active.jobs()[pair.job("active")]["pull"]["Invocation"]
    return told if told["Outcome"] else None


def what_was_planned_is_done(pair: Pair, of: Filesystems) -> None:
    """Snapshots, cursors, holds and placeholders."""
    world, root = pair.world, of.at[of.grown].rpartition("/")[0]
    newest = {of.grown: "3", of.cut: "2", of.deep: "1", of.web: "1"}
    for name, to in newest.items():
        assert world.snapshots(of.at[name]) == world.snapshots(name)
        assert cursor_of(pair, f"{name}@{to}") in bookmarks(world, name)
    tag = f"zrepl_last_received_J_{pair.job('active')}"
    held = {(f"{of.at[name]}@{to}", tag) for name, to in (*newest.items(), (of.forked, "1"))}
    assert holds(world, root) == held
    assert list(world.snapshots(of.at[of.forked])) == ["1", "own"]
    told = asked(pair, "test", "placeholder", "--all")
    for name in ("skip", "clients", "hosts"):
        assert f"yes\t{root}/{name}\ton\n" in told


def a_check_goes_by_conflicts_and_ages(pair: Pair, of: Filesystems) -> None:
    """Its states 0, 1 and 2; a source asks zfs for its snapshots."""
    assert of.forked in asked(pair, "check", pair.job("active"), status=2)
    passive = pair.job("passive")
    check = ("check", passive, "--max-age")
    assert asked(pair, *check, "1h/2h", role="passive").startswith("ZREPL OK")
    assert f"WARNING {passive}: " in asked(pair, *check, "0s/2h", role="passive", status=1)
    assert of.grown in asked(pair, *check, "0s", role="passive", status=2)


def marks_are_listed_made_and_let_go(pair: Pair, of: Filesystems) -> None:
    """By `zfs-abstraction`: a cursor, a hold that a killed run would have left; not an admin's own."""
    world, job = pair.world, pair.job("passive")
    first, newest = f"{of.grown}@1", f"{of.grown}@3"
    hold(world, newest, "by_hand")

    def marks(*words: str) -> list[str]:
        words = ("zfs-abstraction", *words, "--fs", f"{of.grown}:ok")
        return asked(pair, *words, role="passive").splitlines()

    step = f'step-hold "zrepl_STEP_J_{job}" on {first}'
    (listed,) = marks("list", "--job", job)
    assert cursor_of(pair, newest) in listed
    create = ("zfs-abstraction", "create", "step", "-j", job, "-t", first)
    assert asked(pair, *create, role="passive") == f"{step}\n"
    assert holds(world, of.grown) == {(first, f"zrepl_STEP_J_{job}"), (newest, "by_hand")}
    # the cursor is beyond it
    assert marks("release-stale", "--dry-run") == [f"would destroy {step}"]
    assert marks("release-stale") == [f"destroy {step} ... OK"]
    assert holds(world, of.grown) == {(newest, "by_hand")}
    assert marks("release-all", "--job", job) == [f"destroy {listed} ... OK"]
    assert (bookmarks(world, of.grown), holds(world, of.grown)) == (set(), {(newest, "by_hand")})


def cursor_of(pair: Pair, snap: str) -> str:
    """The bookmark that the sender's job has of this snapshot."""
    dataset = snap.partition("@")[0]
    return f"{dataset}#zrepl_CURSOR_G_{guid(pair.world, snap)}_J_{pair.job('passive')}"
