"""A host that zrepl runs goes on under zrepl-trio, and then under zrepl again.

What is sent is counted, so that nothing goes twice; what either prints of holds and bookmarks is compared
whenever the daemons are down.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from dataclasses import replace

from .cells import cursor, left_behind, take
from .daemons import Program, ours, theirs
from .pairs import Pair
from .scenarios import MIB, done, same
from .takeovers import command
from .waiting import until

CYCLES = 2


def abstractions(pair: Pair, program: Program) -> set[tuple[tuple[str, str], ...]]:
    """What `zfs-abstraction list` of that program tells of all filesystems of both sides."""
    listed = subprocess.run(
        [*program.argv, "zfs-abstraction", "list", "--json"],
        env=pair.world.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    decoder, text, at = json.JSONDecoder(), listed.stdout.strip(), 0
    found = []
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        found += value if isinstance(value, list) else [value]
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return {
        tuple(sorted((key, json.dumps(value)) for key, value in each.items())) for each in found
    }


def stale(pair: Pair, program: Program) -> str:
    released = subprocess.run(
        [*program.argv, "zfs-abstraction", "release-stale", "--dry-run", "--json"],
        env=pair.world.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return released.stdout.strip()


def moved(pair: Pair, role: str, program: Program) -> None:
    """That side's daemon has ended; the other program goes on with the same config."""
    listed = [abstractions(pair, each) for each in (theirs(), ours())]
    assert listed[0] == listed[1] != set()
    if program.name != "zrepl":
        # ours, before it starts, says that all goes on
        checked = command(pair, replace(pair.ends.daemons[role], program=program), "takeover")
        assert checked.returncode == 0, checked.stdout + checked.stderr
    pair.ends.programs[role] = program
    if role == "passive":
        pair.ends.let_in(program)
    pair.ends.start(role)


def cycles(pair: Pair, names: itertools.count[int]) -> None:
    """Each sends its own MiB, and leaves the one cursor and the one hold."""
    for _ in range(CYCLES):
        name = str(next(names))
        before = sum(pair.received())
        newest = take(pair, name, 1)
        done(pair.replicate())
        assert MIB < sum(pair.received()) - before < 1.5 * MIB
        assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)
        last = f"zrepl_last_received_J_{pair.job(pair.receiver)}"
        expected = ({cursor(pair, newest)}, {(f"{pair.replica}@{name}", last)})
        assert left_behind(pair) == expected


def stopped_in_mid_stream(pair: Pair, role: str, name: str) -> None:
    """That side's daemon is stopped when a step of 24 MiB has brought 6."""
    take(pair, name, 24)
    with pair.stalled_at(6 * MIB):
        pair.ends.stop(role)
    until(
        lambda: pair.world.value("receive_resume_token", pair.replica) != "-",
        "what came is saved",
    )


def resumed(pair: Pair) -> None:
    """Only the rest comes. Of a killed ssh the count is lost; and what filled pipes and windows beyond
    the 6 MiB, over ssh another 5 and more, may have arrived after all."""
    before = sum(pair.received())
    done(pair.replicate())
    assert MIB < sum(pair.received()) - before < 21 * MIB
    assert pair.world.snapshots(pair.replica) == pair.world.snapshots(pair.dataset)


def there_and_back(pair: Pair, role: str) -> None:
    """From zrepl to ours with a step cut in the middle, and back the same way."""
    names = itertools.count(1)
    take(pair, "0", 1)
    done(pair.replicate())
    cycles(pair, names)
    for program in (ours(), theirs()):
        stopped_in_mid_stream(pair, role, str(next(names)))
        moved(pair, role, program)
        resumed(pair)
        cycles(pair, names)
    for each in (theirs(), ours()):
        assert stale(pair, each) in {"", "[]", "null"}
    listed = [abstractions(pair, each) for each in (theirs(), ours())]
    assert listed[0] == listed[1]
    same(pair)
